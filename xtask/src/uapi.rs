//! `cargo xtask uapi`: the tables of `crates/uapi` against the enumerators in the BTF of real kernels.

use crate::kernels;
use crate::tools::finish;
use anyhow::{Context, Result, ensure};
use pico_args::Arguments;
use ringfence_btf::{Btf, Def, Kind};
use ringfence_uapi::{AttachType, Command, Helper, LinkType, MapType, ProgramType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An `enum` as `crates/uapi` has it.
struct Table {
    name: &'static str,
    prefix: &'static str,
    rows: BTreeMap<&'static str, i64>,
}

macro_rules! tables {
    ($($kind:ident),*) => {
        vec![$(Table {
            name: $kind::ENUM,
            prefix: $kind::PREFIX,
            rows: $kind::ALL.iter().map(|(name, value)| (*name, i64::from(value.0))).collect(),
        }),*]
    };
}

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    // The only thing that it does; CI says so.
    arguments.contains("--check");
    finish(arguments)?;
    let tables = tables!(AttachType, Command, Helper, LinkType, MapType, ProgramType);
    let series: Vec<&str> = kernels::present().collect();
    ensure!(!series.is_empty(), "no kernels; `cargo xtask kernels` fetches them");
    let read = |series: &&str| Ok(Btf::parse(Arc::new(std::fs::read(kernels::btf(series)?)?))?);
    let kernels = series.iter().map(read).collect::<Result<Vec<Btf>>>()?;
    let mut wrong = Vec::new();
    for table in &tables {
        // By value: over the years some have got more than one name.
        let mut named: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
        for btf in &kernels {
            for (name, value) in enumerators(btf, table.name).with_context(|| format!("enum {}", table.name))? {
                // `__MAX_BPF_CMD`, `MAX_BPF_LINK_TYPE`: not values but their number.
                if let Some(bare) = name.strip_prefix(table.prefix) {
                    named.entry(value).or_default().insert(bare.to_ascii_uppercase());
                }
            }
        }
        for (row, value) in &table.rows {
            if !named.get(value).is_some_and(|names| names.contains(*row)) {
                wrong.push(format!("{}{row} is {value} in the table and in no kernel", table.prefix));
            }
        }
        let unknown = named.iter().filter(|(value, _)| !table.rows.values().any(|known| known == *value));
        wrong.extend(unknown.map(|(value, names)| format!("{}{names:?} = {value} is not in the table", table.prefix)));
    }
    wrong.iter().for_each(|line| eprintln!("uapi: {line}"));
    ensure!(wrong.is_empty(), "{} rows of crates/uapi/src/enums.rs are not the kernel's", wrong.len());
    let rows: usize = tables.iter().map(|table| table.rows.len()).sum();
    eprintln!("uapi: {rows} rows as in {}", series.join(" "));
    Ok(())
}

fn enumerators(btf: &Btf, name: &str) -> Result<Vec<(String, i64)>> {
    let id = btf.find(name, Kind::Enum).context("not in the kernel's BTF")?;
    let Def::Enum(found) = btf.get(id)?.def else { anyhow::bail!("no enum") };
    found.values().map(|value| value.map(|value| (value.name.to_string(), value.value)).map_err(Into::into)).collect()
}
