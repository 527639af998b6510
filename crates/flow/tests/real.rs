//! Objects that others wrote: what they send, and of which type.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};

use ringfence_flow::{Size, event_types, outputs, slot_scale_is_log2};
use ringfence_object::Object;

fn objects(directory: &str) -> Option<Vec<PathBuf>> {
    let Some(root) = std::env::var_os("RINGFENCE_OBJECTS") else {
        println!("skipped: RINGFENCE_OBJECTS is not set");
        return None;
    };
    let mut found: Vec<PathBuf> = std::fs::read_dir(Path::new(&root).join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "o"))
        .collect();
    found.sort();
    assert!(!found.is_empty());
    Some(found)
}

fn parse(path: &Path) -> Option<Object> {
    Object::parse(&path.file_name().unwrap().to_string_lossy(), &std::fs::read(path).unwrap()).ok()
}

fn size(size: Size) -> String {
    match size {
        Size::Exact(bytes) => bytes.to_string(),
        Size::Between(least, most) => format!("{least}..{most}"),
        Size::Unknown => "?".into(),
    }
}

#[test]
fn libbpf_tools() {
    for path in objects("libbpf-tools").unwrap_or_default() {
        let object = parse(&path).unwrap();
        for choice in event_types(&object, None) {
            println!(
                "{:16} {:16} {:12} {:24} {:10} {}",
                object.name,
                object.maps[choice.map.0].name,
                size(choice.size),
                choice.chosen.as_ref().map_or("-".into(), |c| format!("{} {:?}", c.name, c.basis)),
                if choice.ambiguous { "ambiguous" } else { "" },
                choice.said.unwrap_or_default(),
            );
        }
    }
}
