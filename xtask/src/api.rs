//! `cargo xtask api`: the public names of the library, compared with docs/api.txt. A name that comes or goes is then seen
//! in review.
//!
//! The names are rustdoc's: its JSON form is unstable, which the stable compiler lets pass with RUSTC_BOOTSTRAP. Only
//! names are read from it, and those have been in the same places for years.

use crate::tools::{cargo, finish, root, run as execute, target};
use anyhow::{Context, Result, ensure};
use pico_args::Arguments;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const LIBRARY: &str = "ringfence";
/// Crates whose items the library hands on.
const ROOMS: &[&str] = &["btf", "kernel", "object", "plan", "sys", "uapi", "value"];

pub(crate) fn run(mut arguments: Arguments) -> Result<()> {
    let write = arguments.contains("--write");
    finish(arguments)?;
    let names = names()?;
    let file = root().join("docs/api.txt");
    if write {
        return fs::write(&file, names).with_context(|| file.display().to_string());
    }
    let known = fs::read_to_string(&file).unwrap_or_default();
    let (now, then): (BTreeSet<&str>, BTreeSet<&str>) = (names.lines().collect(), known.lines().collect());
    now.difference(&then).for_each(|line| println!("+ {line}"));
    then.difference(&now).for_each(|line| println!("- {line}"));
    ensure!(
        names == known,
        "docs/api.txt is not what the library offers; `cargo xtask api --write` when it is meant so"
    );
    Ok(())
}

fn names() -> Result<String> {
    let place = target().join("api");
    let rooms = ROOMS.iter().map(|room| format!("{LIBRARY}-{room}"));
    let packages: Vec<String> = std::iter::once(LIBRARY.to_string()).chain(rooms).collect();
    let mut doc = cargo(["doc", "--quiet", "--no-deps", "--lib", "--locked"]);
    packages.iter().for_each(|package| _ = doc.args(["--package", package]));
    // Warnings are for the step that builds the documentation.
    doc.env("RUSTC_BOOTSTRAP", "1").env("RUSTDOCFLAGS", "-Zunstable-options --output-format json --cap-lints allow");
    execute(doc.arg("--target-dir").arg(&place))?;

    let mut walk = Walk { crates: BTreeMap::new(), lines: BTreeSet::new() };
    for package in packages {
        let name = package.replace('-', "_");
        let json = fs::read(place.join("doc").join(format!("{name}.json"))).with_context(|| name.clone())?;
        walk.crates.insert(name, serde_json::from_slice(&json)?);
    }
    let top = walk.crates.get(LIBRARY).context("no library")?["root"].to_string();
    walk.module(LIBRARY, &top, LIBRARY);
    ensure!(walk.lines.len() > 10, "rustdoc's JSON has changed: no names found");
    Ok(walk.lines.into_iter().map(|line| line + "\n").collect())
}

struct Walk {
    /// What rustdoc says of each crate.
    crates: BTreeMap<String, Value>,
    /// `PATH KIND`, so that an item and what belongs to it come together.
    lines: BTreeSet<String>,
}

/// The ids in an array.
fn ids(array: &Value) -> Vec<String> {
    array.as_array().into_iter().flatten().map(Value::to_string).collect()
}

impl Walk {
    fn item(&self, krate: &str, id: &str) -> Option<Value> {
        self.crates.get(krate)?["index"].get(id).cloned()
    }

    /// Where an item of another crate is described.
    fn elsewhere(&self, krate: &str, id: &str) -> Option<(String, String)> {
        let summary = self.crates.get(krate)?["paths"].get(id)?;
        let home = summary["path"][0].as_str()?;
        let paths = self.crates.get(home)?["paths"].as_object()?;
        let same = |there: &Value| there["path"] == summary["path"] && there["kind"] == summary["kind"];
        let (id, _) = paths.iter().find(|(_, there)| same(there))?;
        Some((home.to_string(), id.clone()))
    }

    fn line(&mut self, path: &str, kind: &str) {
        self.lines.insert(format!("{path} {kind}"));
    }

    fn module(&mut self, krate: &str, id: &str, path: &str) {
        let Some(module) = self.item(krate, id) else { return };
        for id in ids(&module["inner"]["module"]["items"]) {
            self.visit(krate, &id, path, None);
        }
    }

    /// Names an item under `path`, by its own name or by that of the re-export.
    fn visit(&mut self, krate: &str, id: &str, path: &str, name: Option<&str>) {
        let Some(item) = self.item(krate, id) else {
            match self.elsewhere(krate, id) {
                Some((home, id)) => self.visit(&home, &id, path, name),
                None => self.line(&format!("{path}::{}", name.unwrap_or("?")), "from another crate"),
            }
            return;
        };
        if item["visibility"] != "public" && item["visibility"] != "default" {
            return;
        }
        let Some((kind, inner)) = item["inner"].as_object().and_then(|inner| inner.iter().next()) else { return };
        if kind == "use" {
            let target = inner["id"].to_string();
            match inner["is_glob"] == true {
                true => self.module(krate, &target, path),
                false => self.visit(krate, &target, path, inner["name"].as_str()),
            }
            return;
        }
        let Some(name) = name.or(item["name"].as_str()) else { return };
        let path = format!("{path}::{name}");
        self.line(&path, kind);
        match kind.as_str() {
            "module" => self.module(krate, id, &path),
            "struct" => self.members(krate, &inner["kind"]["plain"]["fields"], &path),
            "union" => self.members(krate, &inner["fields"], &path),
            "enum" => self.members(krate, &inner["variants"], &path),
            "variant" => self.members(krate, &inner["kind"]["struct"]["fields"], &path),
            "trait" => self.members(krate, &inner["items"], &path),
            _ => {}
        }
        for found in ids(&inner["impls"]) {
            let Some(found) = self.item(krate, &found) else { continue };
            if found["inner"]["impl"]["trait"].is_null() {
                self.members(krate, &found["inner"]["impl"]["items"], &path);
            }
        }
    }

    fn members(&mut self, krate: &str, members: &Value, path: &str) {
        for id in ids(members) {
            self.visit(krate, &id, path, None);
        }
    }
}
