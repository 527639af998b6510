//! Stacks behind the events that they belong to.

use ringfence_tools::trace::{Event, Options, Target};

use crate::run::rows::Behind;
use crate::run::stacks::{Names, Stack};

/// What adds stacks with names.
pub fn behind(targets: Vec<Target>, options: Options) -> Behind {
    let names = Names::default();
    Box::new(move |number, bytes| {
        let Some(target) = targets.get(number) else { return Vec::new() };
        let event = Event { target: number, bytes };
        let (kernel, user) = target.stacks(&options, event);
        // Above the place are the programs that look at it.
        let ours = |frame: &String| frame.starts_with("bpf_prog_") || frame.starts_with("bpf_trampoline_");
        let kernel = names.lines(None, kernel).into_iter().skip_while(ours).collect();
        let user = names.lines(Some(event.pid()), user);
        let both = [("kernel", options.kernel_stack, kernel), ("user", options.user_stack, user)];
        let wanted = both.into_iter().filter(|(_, wanted, _)| *wanted);
        wanted.map(|(path, _, frames)| Stack { path: path.to_owned(), frames }).collect()
    })
}
