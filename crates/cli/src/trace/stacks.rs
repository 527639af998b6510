//! Stacks behind the events that they belong to.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ringfence_tools::symbols::{Symbol, Symbols, base};
use ringfence_tools::trace::{Event, Options, Target};
use serde_json::json;

use crate::output::{self, Format};
use crate::run::rows::Behind;

/// How long what is known of a process is believed: another program may have its number by then.
const BELIEVED: Duration = Duration::from_secs(10);

/// What adds stacks with names.
pub fn behind(targets: Vec<Target>, options: Options) -> Behind {
    let mut symbols = Symbols::new();
    let mut seen: HashMap<u32, (u64, Instant)> = HashMap::new();
    let mut images = 0;
    Box::new(move |number, bytes, format, out| {
        let Some(target) = targets.get(number) else { return };
        let event = Event { target: number, bytes };
        let (kernel, user) = target.stacks(&options, event);
        let pid = event.pid();
        let known = seen.get(&pid).filter(|(_, when)| when.elapsed() < BELIEVED);
        let image = match known {
            Some((image, _)) => (pid, *image),
            None => {
                images += 1;
                seen.insert(pid, (images, Instant::now()));
                if !user.is_empty() {
                    symbols.remember((pid, images));
                }
                (pid, images)
            }
        };
        if !user.is_empty() {
            symbols.follow(image, &user);
        }
        let kernel: Vec<String> =
            kernel.iter().flat_map(|address| names(&symbols.kernel(*address), *address)).collect();
        let user: Vec<String> =
            user.iter().flat_map(|address| names(&symbols.user(image, *address), *address)).collect();
        let sides = [("_kernel_stack", options.kernel_stack, kernel), ("_user_stack", options.user_stack, user)];
        for (key, wanted, frames) in sides {
            match format {
                _ if !wanted => {}
                Format::Json => out.extend_from_slice(format!(",\"{key}\":{}", json!(frames)).as_bytes()),
                Format::Yaml => {
                    out.extend_from_slice(output::yaml(&json!({ key: frames })).unwrap_or_default().as_bytes());
                }
                Format::Table => {
                    let side = if key == "_kernel_stack" { "kernel" } else { "user" };
                    for (n, frame) in frames.iter().enumerate() {
                        let title = if n == 0 { side } else { "" };
                        out.extend_from_slice(format!("    {title:<7} {frame}\n").as_bytes());
                    }
                }
            }
        }
    })
}

/// `function (file:line)`, with functions that were compiled into it in front.
fn names(symbols: &[Symbol], address: u64) -> Vec<String> {
    symbols
        .iter()
        .map(|symbol| {
            let place = match (&symbol.file, symbol.line) {
                (Some(file), Some(line)) => format!(" ({}:{line})", base(file)),
                _ if symbol.known && !symbol.module.starts_with('[') => format!(" [{}]", base(&symbol.module)),
                _ if !symbol.known => format!(" {address:#x}"),
                _ => String::new(),
            };
            format!("{}{place}", symbol.function)
        })
        .collect()
}
