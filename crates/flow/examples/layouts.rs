//! Prints what was found out of the records of objects: `cargo run -p ringfence-flow --example layouts FILE...`.
use ringfence_object::Object;

fn main() {
    for path in std::env::args().skip(1) {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let Ok(object) = Object::parse(&path, &bytes) else { continue };
        for layout in ringfence_flow::layouts(&object) {
            println!("{path} {} {:?}", object.maps[layout.map.0].name, layout.size);
            for field in &layout.fields {
                let text = field.line.and_then(|line| object.btf.as_ref()?.string(line.text).ok()).unwrap_or_default();
                let (name, at) = (field.name.as_deref().unwrap_or("?"), field.offset);
                println!(
                    "  {at:4} {:3} {name:14} {:?} {:?}  {}",
                    field.width,
                    field.meaning,
                    field.certainty,
                    text.trim()
                );
            }
        }
    }
}
