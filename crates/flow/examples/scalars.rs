//! The meaning of numbers in the maps of objects: `cargo run -p ringfence-flow --example scalars OBJECT..`.

use ringfence_object::Object;

fn main() {
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path).expect("a file");
        let Ok(object) = Object::parse(&path, &bytes) else { continue };
        for scalar in ringfence_flow::scalars(&object) {
            let map = object.maps.get(scalar.map.0).map_or("?", |map| map.name.as_str());
            println!("{path}: {map} {:?} {}: {:?}", scalar.side, scalar.path, scalar.quantity);
        }
    }
}
