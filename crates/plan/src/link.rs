//! Subprogram linking: a program's function, and behind it every function that it reaches.
//!
//! The order is that of libbpf's `bpf_object__reloc_code`: instruction by instruction, a function that is
//! called for the first time is appended at once and followed at once. So the same object gives the
//! same instructions in both loaders. CO-RE relocations are applied once a function, before it is copied.

use ringfence_kernel::{Feature, Kernel};
use ringfence_object::{Function, FunctionId, Object, Program, Target};
use ringfence_uapi::Insn;

use crate::core::Relocator;
use crate::model::LineInfo;
use crate::{Error, TypeId};

/// Most instructions of a program (`BPF_COMPLEXITY_LIMIT_INSNS` of `include/linux/bpf.h`).
pub(crate) const MAX_INSNS: usize = 1_000_000;
/// Most instructions of a plan, with their relocations and lines: many programs that share large subprograms
/// multiply a small file.
pub(crate) const MAX_TOTAL: usize = 4_000_000;

/// A linked program. What its instructions refer to outside its code is still open.
#[derive(Debug, Default)]
pub(crate) struct Linked {
    pub(crate) insns: Vec<Insn>,
    /// `(instruction, what it refers to)`, maps and externs.
    pub(crate) open: Vec<(usize, Target)>,
    /// Every function in it and where it starts.
    pub(crate) parts: Vec<(FunctionId, usize)>,
    pub(crate) funcs: Vec<(u32, TypeId)>,
    pub(crate) lines: Vec<LineInfo>,
}

/// Links the programs of one object.
pub(crate) struct Linker<'a> {
    object: &'a Object,
    /// `Err`: why there is none.
    relocator: Result<Relocator<'a>, Error>,
    /// Instructions of each function with CO-RE relocations applied; filled on demand.
    ready: Vec<Option<Result<Vec<Insn>, Error>>>,
    /// Where each function is in the program that is being linked: `(number of the program, start)`.
    placed: Vec<(usize, usize)>,
    round: usize,
    total: usize,
}

/// A function whose references are being followed.
struct Frame {
    id: FunctionId,
    start: usize,
    next: usize,
}

impl<'a> Linker<'a> {
    pub(crate) fn new(object: &'a Object, relocator: Result<Relocator<'a>, Error>) -> Linker<'a> {
        let functions = object.functions.len();
        let ready = vec![const { None }; functions];
        Linker { object, relocator, ready, placed: vec![(0, 0); functions], round: 0, total: 0 }
    }

    /// Links one program.
    pub(crate) fn link(&mut self, program: &Program, kernel: &Kernel) -> Result<Linked, Error> {
        self.round = self.round.saturating_add(1);
        let mut linked = Linked::default();
        self.add(program, program.function, &mut linked)?;
        // The exception callback comes last unless the program's own code refers to it
        // (libbpf, bpf_object__relocate).
        if let Some(callback) = program.exception_callback
            && self.start_of(callback).is_none()
            && kernel.has(Feature::BtfDeclTag)
        {
            self.add(program, callback, &mut linked)?;
        }
        self.describe(&mut linked);
        Ok(linked)
    }

    /// Appends a function and everything that it reaches.
    fn add(&mut self, program: &Program, id: FunctionId, linked: &mut Linked) -> Result<(), Error> {
        let start = self.append(program, id, linked)?;
        let mut stack = vec![Frame { id, start, next: 0 }];
        while let Some(frame) = stack.last_mut() {
            let function = function(self.object, frame.id)?;
            let Some(reloc) = function.relocs.get(frame.next) else {
                stack.pop();
                continue;
            };
            frame.next = frame.next.saturating_add(1);
            let at = frame.start.saturating_add(reloc.insn);
            let problem = |problem: &str| link_error(function, reloc.insn, problem);
            let insn = *linked.insns.get(at).ok_or_else(|| problem("the relocation lies outside the function"))?;
            let callee = match reloc.target {
                Target::Call(callee) if insn.code == Insn::CALL => callee,
                Target::Call(_) => return Err(problem("it should be a call and is none")),
                Target::Address(callee) if insn.is_ld_imm64() => callee,
                Target::Address(_) => return Err(problem("it should load a function's address and does not")),
                target @ (Target::Map(_) | Target::Data { .. } | Target::Extern(_) | Target::JumpTable { .. }) => {
                    linked.open.push((at, target));
                    continue;
                }
            };
            let start = match self.start_of(callee) {
                Some(start) => start,
                None => {
                    let start = self.append(program, callee, linked)?;
                    stack.push(Frame { id: callee, start, next: 0 });
                    start
                }
            };
            let far = distance(at, start).ok_or_else(|| problem("the function that it refers to is too far"))?;
            if let Some(insn) = linked.insns.get_mut(at) {
                insn.imm = far;
                insn.src = if insn.is_ld_imm64() { Insn::PSEUDO_FUNC } else { Insn::PSEUDO_CALL };
            }
        }
        Ok(())
    }

    fn start_of(&self, id: FunctionId) -> Option<usize> {
        self.placed.get(id.0).filter(|(round, _)| *round == self.round).map(|(_, start)| *start)
    }

    /// Copies a function's instructions behind what is there.
    fn append(&mut self, program: &Program, id: FunctionId, linked: &mut Linked) -> Result<usize, Error> {
        let start = linked.insns.len();
        let function = function(self.object, id)?;
        let work = function.insns.len().saturating_add(function.relocs.len()).saturating_add(function.lines.len());
        self.total = self.total.saturating_add(work);
        if self.total > MAX_TOTAL {
            return Err(Error::TooLongTogether);
        }
        let insns = self.relocated(id)?;
        if start.saturating_add(insns.len()) > MAX_INSNS {
            return Err(Error::TooLong { program: program.name.clone() });
        }
        linked.insns.extend_from_slice(insns);
        linked.parts.push((id, start));
        if let Some(placed) = self.placed.get_mut(id.0) {
            *placed = (self.round, start);
        }
        Ok(start)
    }

    /// A function's instructions with its CO-RE relocations applied.
    fn relocated(&mut self, id: FunctionId) -> Result<&[Insn], Error> {
        let function = function(self.object, id)?;
        if let Some(problem) = &function.problem {
            return Err(Error::Object(Box::new(problem.clone())));
        }
        if function.core.is_empty() {
            return Ok(&function.insns);
        }
        let relocator = self.relocator.as_mut();
        let Some(ready) = self.ready.get_mut(id.0) else { return Ok(&function.insns) };
        let ready = ready.get_or_insert_with(|| {
            let relocator = relocator.map_err(|error| error.clone())?;
            let mut insns = function.insns.clone();
            for reloc in &function.core {
                let core = |source| Error::Core { function: function.name.clone(), source: Box::new(source) };
                relocator.apply(reloc, &mut insns).map_err(core)?;
            }
            Ok(insns)
        });
        ready.as_deref().map_err(|error| error.clone())
    }

    /// Function and line records, rebased. The kernel wants one for every function or none at all
    /// (`check_btf_func`, `check_btf_line` of `kernel/bpf/verifier.c`).
    fn describe(&self, linked: &mut Linked) {
        let parts = || {
            let parts = linked.parts.iter();
            parts.filter_map(|(id, start)| Some((self.object.functions.get(id.0)?, u32::try_from(*start).ok()?)))
        };
        let funcs: Vec<_> = parts().filter_map(|(function, start)| Some((start, function.btf?))).collect();
        let mut lines = Vec::new();
        let mut complete = true;
        for (function, start) in parts() {
            complete &= function.lines.first().is_some_and(|line| line.insn == 0);
            lines.extend(function.lines.iter().map(|line| LineInfo {
                insn: start.saturating_add(u32::try_from(line.insn).unwrap_or(u32::MAX)),
                file: line.file,
                text: line.text,
                line_column: line.line << 10 | u32::from(line.column) & 0x3ff,
            }));
        }
        if funcs.len() == linked.parts.len() {
            linked.funcs = funcs;
            if complete {
                linked.lines = lines;
            }
        }
    }
}

fn function(object: &Object, id: FunctionId) -> Result<&Function, Error> {
    object.functions.get(id.0).ok_or_else(|| Error::Link {
        function: format!("#{}", id.0),
        insn: 0,
        problem: "the object has no such function".to_owned(),
    })
}

pub(crate) fn link_error(function: &Function, insn: usize, problem: &str) -> Error {
    Error::Link { function: function.name.clone(), insn, problem: problem.to_owned() }
}

/// From the instruction behind `at` to `start`, as calls count.
fn distance(at: usize, start: usize) -> Option<i32> {
    let next = i64::try_from(at).ok()?.checked_add(1)?;
    i64::try_from(start).ok()?.checked_sub(next).and_then(|far| i32::try_from(far).ok())
}
