//! What a function reaches: helpers, kfuncs, maps, other functions.

use std::collections::BTreeSet;

use ringfence_object::{ExternId, FunctionId, MapId, Object, Target};
use ringfence_uapi::Helper;

/// What a function, and all that it calls, refers to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Uses {
    /// Functions, itself included.
    pub functions: BTreeSet<FunctionId>,
    /// Helpers.
    pub helpers: BTreeSet<Helper>,
    /// Maps, those that hold data sections included.
    pub maps: BTreeSet<MapId>,
    /// What the loader has to find: kernel functions and variables, configuration.
    pub externs: BTreeSet<ExternId>,
}

/// Everything that can be reached from a function through calls and callbacks, whether or not a path leads there.
pub fn uses(object: &Object, function: FunctionId) -> Uses {
    let mut uses = Uses::default();
    let mut todo = vec![function];
    while let Some(id) = todo.pop() {
        let Some(function) = object.functions.get(id.0).filter(|_| uses.functions.insert(id)) else { continue };
        for reloc in &function.relocs {
            match reloc.target {
                Target::Map(map) | Target::Data { map, .. } => _ = uses.maps.insert(map),
                Target::Call(callee) | Target::Address(callee) => todo.push(callee),
                Target::Extern(id) => _ = uses.externs.insert(id),
                Target::JumpTable { .. } => {}
            }
        }
        let calls = function.insns.iter().filter(|insn| insn.is_helper_call());
        uses.helpers.extend(calls.map(|insn| Helper(insn.imm.cast_unsigned())));
    }
    uses
}
