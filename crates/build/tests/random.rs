//! Structs at random: a compiler of C fills them on this machine, the module's setters fill them in Rust, and all bytes agree.
#![allow(clippy::unwrap_used, reason = "tests")]

mod project;

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

const STRUCTS: usize = 200;
const TYPES: &str = "
enum small { SMALL_ONE = 1, SMALL_TWO = 2 };
enum minus { MINUS_BELOW = -5, MINUS_ABOVE = 5 };
enum big { BIG_ONE = 1, BIG_LARGE = 0x1234567890ULL };
";
/// In C, in Rust, in bits.
const NUMBERS: &[(&str, &str, u32)] = &[
    ("__u8", "u8", 8),
    ("__u16", "u16", 16),
    ("__u32", "u32", 32),
    ("__u64", "u64", 64),
    ("__s8", "i8", 8),
    ("__s16", "i16", 16),
    ("__s32", "i32", 32),
    ("__s64", "i64", 64),
    ("__int128", "i128", 64),
    ("void *", "u64", 64),
    ("bool", "u8", 1),
    ("float", "f32", 8),
    ("double", "f64", 8),
    ("enum small", "many::Small", 32),
    ("enum minus", "many::Minus", 31),
    ("enum big", "many::Big", 64),
];
/// In C, in Rust, most bits, signed.
const BITS: &[(&str, &str, u32, bool)] = &[
    ("unsigned", "u32", 32, false),
    ("int", "i32", 32, true),
    ("unsigned char", "u8", 8, false),
    ("short", "i16", 16, true),
    ("unsigned long long", "u64", 64, false),
    ("long long", "i64", 64, true),
    ("bool", "bool", 1, false),
];

/// The same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }
}

/// One struct: what is declared, how C fills it, how Rust fills it and looks at it again.
#[derive(Default)]
struct Made {
    declared: String,
    c: String,
    set: String,
    get: String,
    names: usize,
}

impl Made {
    /// Members of `place`. `used`: they are filled. `union`: they are reached by methods.
    fn members(&mut self, random: &mut Random, place: &str, used: bool, union: bool, is_union: bool, depth: usize) {
        let count = 1 + random.below(5);
        let chosen = random.below(count);
        for at in 0..count {
            let used = used && (!is_union || at == chosen);
            self.names += 1;
            let name = format!("m{}", self.names);
            match random.below(if depth < 3 { 12 } else { 8 }) {
                0..4 => self.number(random, place, &name, used, union),
                4 => self.array(random, place, &name, used, union),
                5..8 => self.bits(random, place, &name, used),
                8 => self.nested(random, ("struct", &name), place, used, union, depth),
                9 => self.nested(random, ("union", &name), place, used, union, depth),
                10 => {
                    self.declared.push_str("struct {\n");
                    self.members(random, place, used, union, false, depth + 1);
                    self.close(random, "");
                }
                _ => {
                    self.declared.push_str("union {\n");
                    self.members(random, place, used, true, true, depth + 1);
                    self.close(random, "");
                }
            }
        }
    }

    fn close(&mut self, random: &mut Random, name: &str) {
        let packed = if random.below(4) == 0 { " __attribute__((packed))" } else { "" };
        let _ = writeln!(self.declared, "}}{packed} {name};");
    }

    fn nested(
        &mut self,
        random: &mut Random,
        (kind, name): (&str, &str),
        place: &str,
        used: bool,
        union: bool,
        depth: usize,
    ) {
        let call = if union { "()" } else { "" };
        let _ = writeln!(self.declared, "{kind} {{");
        if used {
            let _ = writeln!(self.set, "{{ let outer = &mut v; let mut v = outer.{name}{call};");
            let _ = writeln!(self.get, "{{ let v = v.{name}{call};");
        }
        let is_union = kind == "union";
        self.members(random, &format!("{place}{name}."), used, is_union, is_union, depth + 1);
        if used {
            let put = if union { format!("outer.set_{name}(v)") } else { format!("outer.{name} = v") };
            let _ = writeln!(self.set, "{put}; }}");
            self.get.push_str("}\n");
        }
        self.close(random, name);
    }

    fn value(random: &mut Random, (c, rust, bits): (&str, &str, u32)) -> (String, String) {
        let number = random.next() >> (64 - bits);
        match c {
            "__int128" => (format!("((__int128){number}ULL << 60) + 9"), format!("(({number}_i128 << 60) + 9)")),
            "void *" => (format!("(void *){number}ULL"), format!("{number}_u64")),
            "float" | "double" => (format!("{number}.5"), format!("{number}.5_{rust}")),
            c if c.starts_with("enum") => (format!("({c}){number}ULL"), format!("{rust}({number})")),
            c => (format!("({c}){number}ULL"), format!("({number}_u64 as {rust})")),
        }
    }

    fn set(&mut self, name: &str, value: &str, union: bool) {
        let put = if union { format!("v.set_{name}({value})") } else { format!("v.{name} = {value}") };
        let call = if union { "()" } else { "" };
        let _ = writeln!(self.set, "{put};");
        let _ = writeln!(self.get, "assert!({{ v.{name}{call} }} == {value}, \"{name}\");");
    }

    fn number(&mut self, random: &mut Random, place: &str, name: &str, used: bool, union: bool) {
        let kind = NUMBERS[random.below(NUMBERS.len())];
        let _ = writeln!(self.declared, "{} {name};", kind.0);
        if used {
            let (c, rust) = Made::value(random, kind);
            let _ = writeln!(self.c, "v.{place}{name} = {c};");
            self.set(name, &rust, union);
        }
    }

    fn array(&mut self, random: &mut Random, place: &str, name: &str, used: bool, union: bool) {
        let (kind, len) = (NUMBERS[random.below(NUMBERS.len())], 1 + random.below(4));
        let _ = writeln!(self.declared, "{} {name}[{len}];", kind.0);
        if used {
            let (c, rust): (Vec<_>, Vec<_>) = (0..len).map(|_| Made::value(random, kind)).unzip();
            for (at, c) in c.iter().enumerate() {
                let _ = writeln!(self.c, "v.{place}{name}[{at}] = {c};");
            }
            self.set(name, &format!("[{}]", rust.join(", ")), union);
        }
    }

    fn bits(&mut self, random: &mut Random, place: &str, name: &str, used: bool) {
        let (c, rust, most, signed) = BITS[random.below(BITS.len())];
        let width = 1 + random.below(most as usize) as u32;
        let _ = writeln!(self.declared, "{c} {name} : {width};");
        if random.below(8) == 0 {
            let _ = writeln!(self.declared, "{c} : {};", random.below(2));
        }
        if used {
            let number = random.next() >> (64 - width);
            let seen = if signed { (number << (64 - width)).cast_signed() >> (64 - width) } else { number as i64 };
            let (value, c) = match rust {
                "bool" => ((number == 1).to_string(), number.to_string()),
                _ if signed => (format!("({seen}_i64 as {rust})"), format!("(long long){number}ULL")),
                _ => (format!("({number}_u64 as {rust})"), format!("{number}ULL")),
            };
            let _ = writeln!(self.c, "v.{place}{name} = {c};");
            let _ = writeln!(self.set, "v.set_{name}({value});");
            let _ = writeln!(self.get, "assert!(v.{name}() == {value}, \"{name}\");");
        }
    }
}

#[test]
fn structs_at_random_have_the_bytes_that_c_gives_them() {
    let mut random = Random(0x1db7_5f2c_9e11_0a03);
    let mut types = TYPES.to_owned();
    let (mut globals, mut c, mut rust) = (String::new(), String::new(), String::new());
    let mut calls = String::new();
    for n in 0..STRUCTS {
        let mut made = Made::default();
        made.members(&mut random, "", true, false, false, 0);
        let tail = if n % 10 == 9 { "__u8 tail[];\n" } else { "" };
        let packed = if n % 4 == 3 { " __attribute__((packed))" } else { "" };
        let _ = writeln!(types, "struct s{n} {{\n{}{tail}}}{packed};", made.declared);
        let _ = writeln!(globals, "struct s{n} v{n} = {{}};");
        let _ = writeln!(c, "static void f{n}(void) {{ static struct s{n} v; {} put({n}, &v, sizeof(v)); }}", made.c);
        let _ = writeln!(
            rust,
            "fn f{n}() {{\nlet mut v = many::S{n}::default();\n{}{}put({n}, v.as_bytes());\n}}",
            made.set, made.get
        );
        let _ = writeln!(calls, "f{n}();");
    }
    let manifest = "[package]\nname = \"many\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n\
        ringfence = \"0.1\"\n\n[build-dependencies]\nringfence-build = \"0.1\"\n";
    let build = "fn main() {\n    if let Err(error) = ringfence_build::Builder::new(\"src/many.bpf.c\").flag(\"-w\").build() {\n\
        panic!(\"{error}\");\n    }\n}\n";
    let main = format!(
        "#![forbid(unsafe_code)]\n#![allow(unused)]\ninclude!(concat!(env!(\"OUT_DIR\"), \"/many.rs\"));\n\
         use ringfence::zerocopy::IntoBytes;\n\
         fn put(n: usize, bytes: &[u8]) {{\n    print!(\"{{n}} \");\n    bytes.iter().for_each(|b| print!(\"{{b:02x}}\"));\n    println!();\n}}\n\
         {rust}\nfn main() {{\n{calls}}}\n"
    );
    let page = format!(
        "```toml file=Cargo.toml\n{manifest}```\n```rust file=build.rs\n{build}```\n```c file=src/many.bpf.c\n\
         #include <linux/types.h>\n#include <stdbool.h>\n{types}{globals}char LICENSE[] __attribute__((section(\"license\"), used)) = \"GPL\";\n```\n\
         ```rust file=src/main.rs\n{main}```\n"
    );
    let Some(out) = project::run(&page) else { return };

    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("many.c"), dir.path().join("many"));
    let text = format!(
        "#include <linux/types.h>\n#include <stdbool.h>\n#include <stdio.h>\n{types}\n\
         static void put(int n, const void *at, unsigned long size) {{\n\tprintf(\"%d \", n);\n\
         \tfor (unsigned long i = 0; i < size; i++) printf(\"%02x\", ((const unsigned char *)at)[i]);\n\tputs(\"\");\n}}\n\
         {c}\nint main(void) {{\n{calls}\treturn 0;\n}}\n"
    );
    fs::write(&source, text).unwrap();
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang-19".to_owned());
    let made = Command::new(clang).args(["-w", "-O0", "-o"]).arg(&program).arg(&source).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let of_c = String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap();
    assert_eq!(of_c.lines().count(), STRUCTS);
    for (c, rust) in of_c.lines().zip(out.lines()) {
        let n = c.split(' ').next().unwrap();
        let text = types.split_once(&format!("struct s{n} {{")).map_or("", |(_, rest)| rest);
        assert_eq!(c, rust, "struct s{n} {{{}", text.split_once("\nstruct s").map_or(text, |(text, _)| text));
    }
    assert_eq!(out.lines().count(), STRUCTS);
}
