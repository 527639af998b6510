//! One kernel in QEMU: three serial ports carry its console, the job's output, and its exit code.

use super::initrd::Initrd;
use crate::kernels;
use crate::tools::{Scratch, command, have, name, text};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// To user space; a guest that hangs while it calibrates its timer (5.10, rarely) is given a second chance.
const BOOT: Duration = Duration::from_secs(60);
const BUSYBOX: &str = "/bin/busybox";

/// First program of the guest. The second line on ttyS2 is the job's exit code.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/t HOME=/tmp
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
stty -F /dev/ttyS1 raw -echo; stty -F /dev/ttyS2 raw -echo
exec </dev/null >/dev/ttyS1 2>&1
echo up > /dev/ttyS2
mount -t bpf bpf /sys/fs/bpf; mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security; mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
ip link set lo up
for module in $(cat /modules/order 2>/dev/null); do insmod /modules/$module; done
cd /t; setsid sh /job; echo $? > /dev/ttyS2
poweroff -f
";

/// A kernel that can be booted.
pub(crate) struct Guest {
    series: String,
    dir: PathBuf,
}

/// What to run in it.
pub(crate) struct Job<'a> {
    /// For busybox's shell, as root, in the directory of the files.
    pub(crate) script: &'a str,
    /// Files of this machine and their places there; the shared libraries that programs need come along.
    pub(crate) files: &'a [(PathBuf, String)],
    /// Kernel modules to load before, with those that they need; what the kernel does not have is left out.
    pub(crate) modules: &'a [&'a str],
    /// MiB; the files are in it too.
    pub(crate) memory: u32,
    pub(crate) limit: Duration,
}

impl Job<'_> {
    /// What is enough for a package's tests.
    pub(crate) const MEMORY: u32 = 1024;
    pub(crate) const LIMIT: Duration = Duration::from_secs(600);
}

/// What came of it.
pub(crate) struct Answer {
    /// `None`: the machine died before the job ended, or its time was over.
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    /// The end of what the kernel said.
    pub(crate) console: String,
    pub(crate) time: Duration,
}

impl Guest {
    pub(crate) fn of(series: &str) -> Result<Guest> {
        let btf = kernels::btf(series)?;
        let dir = btf.parent().context("no parent")?.to_path_buf();
        Ok(Guest { series: series.to_string(), dir })
    }

    pub(crate) fn run(&self, job: &Job<'_>) -> Result<Answer> {
        self.run_from(&self.initrd(job)?, job.memory, job.limit)
    }

    /// Boots into a file system whose `/init` keeps to the three serial ports.
    pub(crate) fn run_from(&self, initrd: &[u8], memory: u32, limit: Duration) -> Result<Answer> {
        ensure!(have("qemu-system-x86_64"), "qemu-system-x86 is not installed; `cargo xtask setup` does");
        let scratch = Scratch::new("vm")?;
        fs::write(scratch.path().join("initrd"), initrd)?;
        let start = Instant::now();
        for _ in 0..2 {
            if let Some((code, output)) = self.boot(scratch.path(), memory, limit)? {
                let console = tail(&scratch.path().join("console"));
                return Ok(Answer { code, output, console, time: start.elapsed() });
            }
            eprintln!("vm: {} did not come up in {} s", self.series, BOOT.as_secs());
        }
        bail!("does not boot: {}", tail(&scratch.path().join("console")))
    }

    fn initrd(&self, job: &Job<'_>) -> Result<Vec<u8>> {
        let mut initrd = Initrd::default();
        for directory in ["/bin", "/dev", "/proc", "/sys", "/tmp", "/run", "/etc", "/t", "/modules"] {
            initrd.directory(directory);
        }
        initrd.file("/init", 0o755, INIT.as_bytes());
        initrd.file("/job", 0o755, job.script.as_bytes());
        initrd
            .copy(Path::new(BUSYBOX), BUSYBOX)
            .context("busybox-static is not installed; `cargo xtask setup` does")?;
        initrd.link("/bin/sh", "busybox");
        initrd.file("/etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n");
        // Where loaders look for the configuration: Debian's kernels have no /proc/config.gz.
        let release = fs::read_to_string(self.dir.join("release"))?;
        if self.dir.join("config").exists() {
            initrd.copy(&self.dir.join("config"), &format!("/boot/config-{}", release.trim()))?;
        }
        for (file, place) in job.files {
            initrd.copy(file, place)?;
            if fs::metadata(file)?.permissions().mode() & 0o111 != 0 {
                libraries(&mut initrd, file)?;
            }
        }
        let mut order = Vec::new();
        for module in job.modules {
            self.module(&mut initrd, module, &mut order)?;
        }
        initrd.file("/modules/order", 0o644, order.join("\n").as_bytes());
        Ok(initrd.finish())
    }

    /// Adds a module after those that it needs, unpacked: busybox reads no compressed ones.
    fn module(&self, initrd: &mut Initrd, module: &str, order: &mut Vec<String>) -> Result<()> {
        let file = format!("{}.ko", module.replace('-', "_"));
        if order.contains(&file) {
            return Ok(());
        }
        // `nf-tables.ko.xz` is the module nf_tables.
        let is_it = |path: &&str| name(Path::new(path)).replace('-', "_").starts_with(&file);
        let found = text(command("find", [self.dir.join("modules")]).args(["-name", "*.ko*"]))?;
        let Some(path) = found.lines().find(is_it) else {
            let builtin = fs::read_to_string(self.dir.join("modules/modules.builtin")).unwrap_or_default();
            if !builtin.lines().any(|line| is_it(&line)) {
                eprintln!("vm: kernel {} has no module {module}", self.series);
            }
            return Ok(());
        };
        let bytes = match path.rsplit_once('.') {
            Some((_, "xz")) => crate::tools::bytes(&mut command("xz", ["-dc", path]))?,
            Some((_, "zst")) => crate::tools::bytes(&mut command("zstd", ["-dcq", path]))?,
            _ => fs::read(path)?,
        };
        const DEPENDS: &[u8] = b"\0depends=";
        let at = bytes.windows(DEPENDS.len()).position(|window| window == DEPENDS);
        let depends = at.map_or(&[][..], |at| &bytes[at + DEPENDS.len()..]);
        let depends = depends.split(|byte| *byte == 0).next().unwrap_or_default();
        for needed in String::from_utf8_lossy(depends).split(',').filter(|needed| !needed.is_empty()) {
            self.module(initrd, needed, order)?;
        }
        initrd.file(&format!("/modules/{file}"), 0o644, &bytes);
        order.push(file);
        Ok(())
    }

    /// Boots and waits. `None`: it never came up.
    fn boot(&self, dir: &Path, memory: u32, limit: Duration) -> Result<Option<(Option<i32>, String)>> {
        let [console, output, code] = ["console", "output", "code"].map(|name| dir.join(name));
        for file in [&console, &output, &code] {
            fs::write(file, "")?;
        }
        // Dies with the thread that started it, so that no machine is left behind.
        let mut qemu = command("setpriv", ["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        qemu.args([
            "-machine",
            "q35",
            "-m",
            &memory.to_string(),
            "-smp",
            "1",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ]);
        qemu.args(["-no-reboot", "-accel"]).args(accelerator());
        qemu.arg("-kernel").arg(self.dir.join("vmlinux")).arg("-initrd").arg(dir.join("initrd"));
        let fast = "mitigations=off cryptomgr.notests random.trust_cpu=on";
        // Debian's 5.10 leaves bpf out of the list: programs for security hooks attach and never run.
        let lsm = "lsm=lockdown,capability,yama,apparmor,bpf";
        qemu.args(["-append", &format!("console=ttyS0 loglevel=5 panic=-1 oops=panic {lsm} {fast}")]);
        for file in [&console, &output, &code] {
            qemu.arg("-serial").arg(format!("file:{}", file.display()));
        }
        let mut machine = qemu.spawn().context("qemu-system-x86_64")?;
        let up = wait(&mut machine, BOOT, || !fs::read(&code).unwrap_or_default().is_empty())?;
        if !up {
            return Ok(None);
        }
        wait(&mut machine, limit, || false)?;
        let said = fs::read_to_string(&code)?;
        let code = said.lines().nth(1).and_then(|line| line.trim().parse().ok());
        let output = String::from_utf8_lossy(&fs::read(&output)?).replace('\r', "");
        Ok(Some((code, output)))
    }
}

/// Waits until the machine ends (or is ended, when the time is over), or something is so.
fn wait(machine: &mut Child, time: Duration, so: impl Fn() -> bool) -> Result<bool> {
    let end = Instant::now() + time;
    loop {
        if so() {
            return Ok(true);
        }
        if machine.try_wait()?.is_some() {
            return Ok(so());
        }
        if Instant::now() > end {
            machine.kill()?;
            machine.wait()?;
            return Ok(so());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// kvm only where the processor has it: a /dev/kvm without is software, and slower than QEMU's own.
fn accelerator() -> [&'static str; 3] {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpu.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    match flags.split(' ').any(|flag| flag == "vmx" || flag == "svm") && Path::new("/dev/kvm").exists() {
        true => ["kvm", "-cpu", "host"],
        false => ["tcg", "-cpu", "max"],
    }
}

/// The shared libraries of a program, each at its own place.
fn libraries(initrd: &mut Initrd, program: &Path) -> Result<()> {
    // ldd fails for a static program, which needs none.
    let shown = text(&mut command("ldd", [program])).unwrap_or_default();
    for library in shown.split_whitespace().filter(|word| word.starts_with('/')) {
        if !initrd.has(library) {
            initrd.copy(Path::new(library), library)?;
        }
    }
    Ok(())
}

fn tail(file: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
