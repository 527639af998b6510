//! Stacks of code without frame pointers: which files get a table, and what the kernel side is told of a process.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use ringfence::{Kernel, Map, MapOfMaps, MapType, NewMap, Result, Table};
use ringfence_uapi::Helper;

use super::cfi::{self, CHUNK, Place};
use super::raw::{Loaded, Mapped, Mapping};
use crate::symbols::{Image, Symbols};

/// Rows of all files together: 8 bytes each, in the kernel.
const MOST_ROWS: usize = 8 << 20;
/// Files with a table, as `unwind_files` has room for them; number 0 is none.
const MOST_FILES: usize = 1023;
/// `BPF_F_INNER_MAP`: maps of any length fit in one of maps.
const F_INNER_MAP: u32 = 1 << 12;
/// Code of which this part has frame pointers needs no table.
const HAS_POINTERS: f64 = 0.95;
/// A file gets a table when it is mapped by a process of which the kernel side has seen many stacks, or by so many processes: what
/// is hardly met is not worth reading.
const ENOUGH: u32 = 8;
/// Processes that wait for tables of their files.
const MOST_WAITING: usize = 1024;

/// How user stacks are walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Unwind {
    /// By tables through files without frame pointers, else by frame pointers.
    #[default]
    Auto,
    /// By frame pointers alone: nothing is read of the files.
    Pointers,
    /// By tables through every file that has an `.eh_frame`.
    Tables,
}

/// The tables that a measurement made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Made {
    /// Files with a table.
    pub files: u64,
    /// Memory of the tables, in the kernel.
    pub bytes: u64,
    /// Files that would have one if there were room, or if the kernel had not refused it.
    pub left_out: u64,
    /// Processes that found no room in the kernel's list.
    pub processes_left_out: u64,
}

/// Makes tables as processes are seen.
#[derive(Debug)]
pub(super) struct Walker {
    unwind: Unwind,
    files: MapOfMaps<u32>,
    processes: Table<u32, Mapped>,
    /// By the number of the file.
    known: HashMap<usize, Known>,
    /// Processes with files that have no table yet.
    waiting: HashSet<Image>,
    reader: Reader,
    /// Files that are being read.
    reading: usize,
    rows: usize,
    made: Made,
}

#[derive(Debug)]
enum Known {
    /// How many processes have it mapped; not enough.
    Seen(u32),
    /// It is being read.
    Reading,
    /// It has no table.
    Without,
    With {
        number: u32,
        chunks: u32,
        place: Place,
    },
}

/// Reads files on a thread of its own: that of a big one takes a second, and meanwhile samples have to be taken over.
#[derive(Debug)]
struct Reader {
    files: Sender<(usize, File)>,
    tables: Receiver<(usize, Option<cfi::Table>)>,
}

impl Reader {
    fn start() -> Reader {
        let (files, to_read) = channel::<(usize, File)>();
        let (done, tables) = channel();
        // Without a thread there are no tables, and stacks are walked by frame pointers. It ends with the channel.
        let _ = std::thread::Builder::new().name("tables".into()).spawn(move || {
            while let Ok((number, file)) = to_read.recv() {
                if done.send((number, cfi::Table::read(&file))).is_err() {
                    break;
                }
            }
        });
        Reader { files, tables }
    }
}

impl Walker {
    pub(super) fn new(unwind: Unwind, kernel: &Kernel, loaded: &Loaded) -> Result<Walker> {
        // The registers of user space are found by it, wherever in the kernel a thread is.
        let works = cfg!(target_arch = "x86_64") && kernel.knows_helper(Helper::TASK_PT_REGS) == Some(true);
        let unwind = if works { unwind } else { Unwind::Pointers };
        let maps = loaded.maps();
        let (files, processes) = (maps.unwind_files()?, maps.mapped_files()?);
        Ok(Walker {
            unwind,
            files,
            processes,
            known: HashMap::new(),
            waiting: HashSet::new(),
            reader: Reader::start(),
            reading: 0,
            rows: 0,
            made: Made::default(),
        })
    }

    pub(super) fn works(&self) -> bool {
        self.unwind != Unwind::Pointers
    }

    /// Files are being read, and their tables will be there soon.
    pub(super) fn is_reading(&self) -> bool {
        self.reading > 0
    }

    pub(super) fn made(&self) -> Made {
        self.made
    }

    /// Takes over tables that were made meanwhile, and tells the kernel side of processes that waited for them.
    pub(super) fn turn(&mut self, symbols: &Symbols) -> Result<()> {
        let mut any = false;
        while let Ok((file, table)) = self.reader.tables.try_recv() {
            let wanted = table.filter(|table| self.unwind == Unwind::Tables || table.with_pointers() < HAS_POINTERS);
            // What cannot be made is missing, as where there is no room: the measurement goes on.
            let made = wanted.map(|table| self.make(table).unwrap_or(None));
            self.made.left_out += u64::from(matches!(made, Some(None)));
            let known = made.flatten().unwrap_or(Known::Without);
            self.known.insert(file, known);
            self.reading = self.reading.saturating_sub(1);
            any = true;
        }
        if any {
            for image in std::mem::take(&mut self.waiting).into_iter().filter(is_there) {
                self.tell(symbols, image)?;
            }
        }
        Ok(())
    }

    /// A process of which a first stack was seen, or, `busy`, many: its files are wanted that much more.
    pub(super) fn seen(&mut self, symbols: &Symbols, image: Image, busy: bool) -> Result<()> {
        if self.unwind == Unwind::Pointers {
            return Ok(());
        }
        // A file may be mapped several times.
        let files: HashSet<usize> = symbols.code(image).filter_map(|code| code.file).collect();
        for file in files {
            let known = self.known.entry(file).or_insert(Known::Seen(0));
            let Known::Seen(times) = known else { continue };
            *times += 1;
            if busy || *times >= ENOUGH {
                let open = symbols.open(file).ok_or(());
                *known = match open.and_then(|open| self.reader.files.send((file, open)).map_err(|_| ())) {
                    Ok(()) => Known::Reading,
                    Err(()) => Known::Without,
                };
                self.reading += usize::from(matches!(known, Known::Reading));
            }
        }
        self.tell(symbols, image)
    }

    /// Tells the kernel side what a process has mapped, as it was last looked at; again, when more of its files have tables.
    pub(super) fn tell(&mut self, symbols: &Symbols, image: Image) -> Result<()> {
        if self.unwind == Unwind::Pointers {
            return Ok(());
        }
        let mut mapped = Mapped { image: image.1, ..Mapped::default() };
        let (mut count, mut any, mut later, mut soon) = (0u32, false, false, false);
        for (place, code) in mapped.mappings.iter_mut().zip(symbols.code(image)) {
            count += 1;
            *place = Mapping { start: code.addresses.start, end: code.addresses.end, ..Mapping::default() };
            let Some(file) = code.file else { continue };
            match self.known.entry(file).or_insert(Known::Seen(0)) {
                Known::Without => {}
                Known::Seen(_) => later = true,
                Known::Reading => soon = true,
                Known::With { number, chunks, place: table } => {
                    if let Some(bias) = table.bias(code.addresses.start, code.offset) {
                        *place = Mapping { bias, table: *number, chunks: *chunks, ..*place };
                        any = true;
                    }
                }
            }
        }
        if later || soon {
            if self.waiting.len() >= MOST_WAITING {
                self.waiting.retain(is_there);
            }
            if self.waiting.len() < MOST_WAITING {
                self.waiting.insert(image);
            }
        }
        if !any || soon {
            return Ok(());
        }
        mapped.count = count;
        let pid = image.0;
        match self.processes.insert(&pid, &mapped) {
            // The program that notes its end may have run before.
            Ok(()) if !is_there(&image) => self.processes.remove(&pid).map(|_| ()),
            Ok(()) => Ok(()),
            // Its stacks are walked by frame pointers.
            Err(_) => {
                self.made.processes_left_out += 1;
                Ok(())
            }
        }
    }

    fn make(&mut self, table: cfi::Table) -> Result<Option<Known>> {
        if self.rows + table.len() > MOST_ROWS || self.made.files as usize >= MOST_FILES {
            return Ok(None);
        }
        let chunks = u32::try_from(table.chunks().len()).unwrap_or(u32::MAX);
        let size = u32::try_from(CHUNK * 8).unwrap_or(u32::MAX);
        let map: Map = NewMap::new("unwind_rows", MapType::ARRAY, 4, size, chunks).flags(F_INNER_MAP).create()?;
        let rows = map.table::<u32, [u64; CHUNK]>()?;
        for (place, chunk) in (0..).zip(table.chunks()) {
            rows.insert(&place, &chunk)?;
        }
        let number = u32::try_from(self.made.files + 1).unwrap_or(u32::MAX);
        self.files.insert(&number, &map)?;
        self.made.files += 1;
        self.made.bytes += u64::from(chunks) * u64::from(size);
        self.rows += table.len();
        Ok(Some(Known::With { number, chunks, place: table.place() }))
    }
}

fn is_there(image: &Image) -> bool {
    Path::new(&format!("/proc/{}", image.0)).exists()
}
