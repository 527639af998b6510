//! Prints the layouts that are recovered from objects, guesses included: `layouts OBJECT..`.
#![allow(clippy::print_stdout, reason = "that is what it is for")]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let object = ringfence_object::Object::parse(&path, &std::fs::read(&path)?)?;
        for layout in ringfence_flow::layouts(&object) {
            let map = object.maps.get(layout.map.0).map_or("", |map| &map.name);
            println!("{path} {map} {:?} {:?} ambiguous {}", layout.size, layout.tag, layout.ambiguous);
            for field in &layout.fields {
                let text = field.line.and_then(|line| object.btf.as_ref()?.string(line.text).ok()).unwrap_or_default();
                let name = field.name.as_deref().unwrap_or("-");
                let (at, end) = (field.offset, field.offset.saturating_add(field.width));
                println!("  {at:5}..{end:<5} {name:20} {:?} {:?} | {}", field.certainty, field.meaning, text.trim());
            }
        }
    }
    Ok(())
}
