//! eBPF programs in C as a typed Rust module, made in `build.rs`: what is in the object (maps, global variables, programs, events)
//! has a name and a type in Rust, all from BTF. `docs/build.md` is the guide.
//!
//! ```no_run
//! // In `main` of build.rs:
//! if let Err(error) = ringfence_build::Builder::new("src/opens.bpf.c").build() {
//!     panic!("{error}");
//! }
//! ```
#![forbid(unsafe_code)]

mod module;
mod types;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ringfence_btf::{Btf, Def, Type};
use ringfence_object::Object;

/// Why no module was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no compiler.
    #[error(
        "cannot run {clang}: {source}; install clang, name it in CLANG, or build from a compiled object (Builder::object)"
    )]
    NoClang {
        /// What was tried.
        clang: String,
        /// Why.
        source: std::io::Error,
    },
    /// The source does not compile.
    #[error("{source_file} does not compile:\n{message}")]
    Clang {
        /// The source.
        source_file: PathBuf,
        /// What clang says.
        message: String,
    },
    /// The object makes no sense.
    #[error("{path}: {source}")]
    Object {
        /// The object.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<ringfence_object::Error>,
    },
    /// A kernel's types cannot be read.
    #[error("{path} holds no kernel's types (BTF): {source}")]
    Vmlinux {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: ringfence_btf::Error,
    },
    /// The object has no types.
    #[error("{0} has no BTF; compile it with -g")]
    NoBtf(PathBuf),
    /// Cargo has not said where to write.
    #[error("OUT_DIR is not set; call this from build.rs, or choose a directory with Builder::out_dir")]
    NoOutDir,
}

/// What to build, and how.
#[derive(Clone, Debug)]
pub struct Builder {
    file: PathBuf,
    compiled: bool,
    clang: Option<String>,
    includes: Vec<PathBuf>,
    flags: Vec<String>,
    big_endian: Option<bool>,
    name: Option<String>,
    out_dir: Option<PathBuf>,
    vmlinux: Option<PathBuf>,
}

impl Builder {
    /// Compiles this source, `NAME.bpf.c`.
    pub fn new(source: impl Into<PathBuf>) -> Builder {
        Builder {
            file: source.into(),
            compiled: false,
            clang: None,
            includes: Vec::new(),
            flags: Vec::new(),
            big_endian: None,
            name: None,
            out_dir: None,
            vmlinux: None,
        }
    }

    /// Takes a compiled object: who builds from it needs no clang.
    pub fn object(object: impl Into<PathBuf>) -> Builder {
        Builder { compiled: true, ..Builder::new(object) }
    }

    /// The compiler; else the one that `CLANG` names, else `clang`.
    #[must_use]
    pub fn clang(mut self, clang: impl Into<String>) -> Builder {
        self.clang = Some(clang.into());
        self
    }

    /// A directory of headers (`-I`).
    #[must_use]
    pub fn include(mut self, directory: impl Into<PathBuf>) -> Builder {
        self.includes.push(directory.into());
        self
    }

    /// A further argument of clang's: `-DNAME=1`.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Builder {
        self.flags.push(flag.into());
        self
    }

    /// Compiles for big-endian machines, or not; else as the target that cargo builds for.
    #[must_use]
    pub fn big_endian(mut self, big: bool) -> Builder {
        self.big_endian = Some(big);
        self
    }

    /// Name of the module; else the source's name up to its first dot.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Where `NAME.rs` and `NAME.bpf.o` are written; else `OUT_DIR`.
    #[must_use]
    pub fn out_dir(mut self, directory: impl Into<PathBuf>) -> Builder {
        self.out_dir = Some(directory.into());
        self
    }

    /// Makes `vmlinux.h` for the source to include: all types of a kernel, of its BTF in this file. `/sys/kernel/btf/vmlinux` is the
    /// machine's own; a copy that lies beside the sources gives the same on every machine. CO-RE fits what is read of them to
    /// the kernel on which the program runs. Such a source includes no other header of the kernel's.
    #[must_use]
    pub fn vmlinux(mut self, btf: impl Into<PathBuf>) -> Builder {
        self.vmlinux = Some(btf.into());
        self
    }

    /// Writes `NAME.rs` and `NAME.bpf.o`, tells cargo of every file that went into them, and gives the place of the module.
    ///
    /// # Errors
    /// The source does not compile, the object has no types, or a file cannot be written.
    pub fn build(&self) -> Result<PathBuf, Error> {
        let out = self.out_dir.clone().or_else(|| env::var_os("OUT_DIR").map(PathBuf::from)).ok_or(Error::NoOutDir)?;
        let name = self.module_name();
        let place = out.join(format!("{name}.bpf.o"));
        if self.compiled {
            changed(&self.file);
            write(&place, &read(&self.file)?)?;
        } else {
            self.compile(&place)?;
        }
        let bytes = read(&place)?;
        let text = module(&name, &bytes, &place)?;
        let module = out.join(format!("{name}.rs"));
        write(&module, text.as_bytes())?;
        Ok(module)
    }

    fn module_name(&self) -> String {
        let stem = || self.file.file_name().unwrap_or_default().to_string_lossy().split('.').next().map(str::to_owned);
        self.name.clone().or_else(stem).unwrap_or_default()
    }

    /// No path of this machine gets into the object: the same sources give the same bytes wherever they lie.
    fn compile(&self, object: &Path) -> Result<(), Error> {
        tell("rerun-if-env-changed=CLANG");
        let clang = self.clang.clone().or_else(|| env::var("CLANG").ok()).unwrap_or_else(|| "clang".to_owned());
        let big = || env::var("CARGO_CFG_TARGET_ENDIAN").map_or(cfg!(target_endian = "big"), |endian| endian == "big");
        let target = if self.big_endian.unwrap_or_else(big) { "bpfeb" } else { "bpfel" };
        let depends = object.with_extension("d");
        let file = fs::canonicalize(&self.file).map_err(|source| Error::File { path: self.file.clone(), source })?;
        let mut command = Command::new(&clang);
        command.args(["-g", "-O2", "-mcpu=v3", "-Wall", "-fdebug-compilation-dir=."]);
        command.arg(format!("--target={target}"));
        if let Some(parent) = file.parent() {
            command.arg(format!("-ffile-prefix-map={}=.", parent.display()));
        }
        for include in &self.includes {
            let include = fs::canonicalize(include).unwrap_or_else(|_| include.clone());
            command.arg("-I").arg(&include).arg(format!("-ffile-prefix-map={}=include", include.display()));
        }
        if let Some(btf) = &self.vmlinux {
            let place = object.parent().unwrap_or(Path::new("."));
            changed(btf);
            write(&place.join("vmlinux.h"), vmlinux(btf)?.as_bytes())?;
            command.arg("-I").arg(place).arg(format!("-ffile-prefix-map={}=.", place.display()));
        }
        // <linux/bpf.h> includes <asm/types.h>, which Debian keeps by architecture.
        let host = format!("/usr/include/{}-linux-gnu", env::consts::ARCH);
        command.args(["-idirafter", &host, "-idirafter", "/usr/include"]);
        let arch = match env::var("CARGO_CFG_TARGET_ARCH").as_deref().unwrap_or(env::consts::ARCH) {
            "x86_64" | "x86" => "x86",
            "aarch64" => "arm64",
            "riscv64" => "riscv",
            "s390x" => "s390",
            "powerpc64" => "powerpc",
            "loongarch64" => "loongarch",
            _ => "",
        };
        if !arch.is_empty() {
            command.arg(format!("-D__TARGET_ARCH_{arch}"));
        }
        command.arg("-MD").arg("-MF").arg(&depends).args(&self.flags);
        command.arg("-c").arg(&file).arg("-o").arg(object);
        let output = command.output().map_err(|source| Error::NoClang { clang, source })?;
        let message = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            changed(&self.file);
            return Err(Error::Clang { source_file: self.file.clone(), message: message.into_owned() });
        }
        message.lines().for_each(|line| tell(&format!("warning={line}")));
        let listed = read(&depends)?;
        dependencies(&String::from_utf8_lossy(&listed)).iter().for_each(|path| changed(Path::new(path)));
        Ok(())
    }
}

/// The text of a module for an object that lies at `place`, which the module includes.
///
/// # Errors
/// The bytes are no object, or one without types.
pub fn module(name: &str, bytes: &[u8], place: &Path) -> Result<String, Error> {
    let object =
        Object::parse(name, bytes).map_err(|source| Error::Object { path: place.to_owned(), source: source.into() })?;
    let btf = object.btf.as_ref().ok_or_else(|| Error::NoBtf(place.to_owned()))?;
    let include = format!("include_bytes!({:?})", place.display().to_string());
    Ok(module::write(&object, btf, name, &include, bytes.len()))
}

/// All types of a kernel as a header, whose warnings are no concern of the user's (`system_header`). What is read through its structs is fitted to the kernel that runs (CO-RE).
fn vmlinux(path: &Path) -> Result<String, Error> {
    let bytes = read(path)?;
    let btf = Btf::parse(Arc::new(bytes)).map_err(|source| Error::Vmlinux { path: path.to_owned(), source })?;
    let wanted = |ty: &Type<'_>| matches!(ty.def, Def::Struct(_) | Def::Union(_) | Def::Enum(_) | Def::Typedef(_));
    let ids: Vec<_> = btf.own_types().flatten().filter(wanted).map(|ty| ty.id).collect();
    // What clang has to say about the kernel's structs is nothing to the user.
    Ok(format!(
        "#pragma once\n#pragma clang system_header\n\
         #pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)\n\n\
         {}\n#pragma clang attribute pop\n",
        btf.c_header(&ids)
    ))
}

/// The files of a rule that clang wrote: `object: a.c b\ c.h \`.
fn dependencies(rule: &str) -> Vec<String> {
    let files = rule.split_once(": ").map_or("", |(_, files)| files).replace("\\\n", " ").replace("\\ ", "\0");
    files.split_whitespace().map(|file| file.replace('\0', " ")).collect()
}

fn changed(path: &Path) {
    tell(&format!("rerun-if-changed={}", path.display()));
}

/// Cargo listens to build scripts alone; whoever else calls this has a stdout of his own.
fn tell(what: &str) {
    if env::var_os("CARGO_CFG_TARGET_ARCH").is_some() {
        println!("cargo::{what}");
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(|source| Error::File { path: path.to_owned(), source })
}
