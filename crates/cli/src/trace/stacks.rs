//! Stacks behind the events that they belong to.

use std::collections::HashMap;

use ringfence_tools::trace::{Event, Options, Target};

use crate::run::rows::Behind;
use crate::run::stacks::{Names, Stack};

/// Stacks that are remembered with their names.
const MOST: usize = 4096;

/// What adds stacks with names.
pub fn behind(targets: Vec<Target>, options: Options) -> Behind {
    let names = Names::default();
    // The same places come again and again, and names take longer than events.
    let mut known: HashMap<(u32, Vec<u64>, Vec<u64>), Vec<Stack>> = HashMap::new();
    Box::new(move |number, bytes| {
        let Some(target) = targets.get(number) else { return Vec::new() };
        let event = Event { target: number, bytes };
        let (kernel, user) = target.stacks(&options, event);
        // Of a stack of the kernel it does not matter whose it is.
        let pid = if user.is_empty() { 0 } else { event.pid() };
        let key = (pid, kernel, user);
        if let Some(stacks) = known.get(&key) {
            return stacks.clone();
        }
        // Above the place are the programs that look at it.
        let ours = |frame: &String| frame.starts_with("bpf_prog_") || frame.starts_with("bpf_trampoline_");
        let kernel = names.lines(None, key.1.iter().copied()).into_iter().skip_while(ours).collect();
        let user = names.lines(Some(event.pid()), key.2.iter().copied());
        let both = [("kernel", options.kernel_stack, kernel), ("user", options.user_stack, user)];
        let wanted = both.into_iter().filter(|(_, wanted, _)| *wanted);
        let stacks: Vec<Stack> = wanted.map(|(path, _, frames)| Stack { path: path.to_owned(), frames }).collect();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, stacks.clone());
        stacks
    })
}
