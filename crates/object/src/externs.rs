//! What an object leaves for the loader to find: `.kconfig` and `.ksyms`.

use std::cmp::Reverse;
use std::collections::HashMap;

use ringfence_btf::{Btf, Def, TypeId};

use crate::elf::Elf;
use crate::types::{Types, bad};
use crate::{Error, Extern, ExternId, ExternKind, KconfigType};

/// The externs in libbpf's order.
#[derive(Default)]
pub(crate) struct Externs {
    pub(crate) list: Vec<Extern>,
    /// What an undefined symbol stands for, or why that cannot be known.
    pub(crate) by_symbol: HashMap<usize, Result<ExternId, String>>,
    pub(crate) by_type: HashMap<TypeId, ExternId>,
}

impl Externs {
    /// Finds the externs among the undefined symbols (libbpf, `bpf_object__collect_externs`).
    pub(crate) fn collect(elf: &Elf<'_>, types: &Types<'_>) -> Result<Externs, Error> {
        let undefined = elf.symbols().enumerate().filter(|(_, symbol)| symbol.is_extern() && !symbol.name.is_empty());
        let mut externs = Externs::default();
        let mut found = Vec::new();
        let mut sections: Option<HashMap<TypeId, &str>> = None;
        for (index, symbol) in undefined {
            let (Some(btf), Some(&id)) = (types.btf, types.externs.get(symbol.name)) else {
                let why = "the object's BTF does not say what it is; declare it with its type and with __kconfig \
                           or __ksym, and compile with -g";
                externs.by_symbol.insert(index, Err(format!("{} is defined nowhere, and {why}", symbol.name)));
                continue;
            };
            let sections = match &sections {
                Some(sections) => sections,
                None => sections.insert(sections_of_vars(btf, types).map_err(|e| bad(elf, e))?),
            };
            elf.spend(symbol.name.len())?;
            match kind_of(btf, id, sections.get(&id).copied()).map_err(|e| bad(elf, e))? {
                Ok((kind, align)) => {
                    let weak = symbol.bind == object::elf::STB_WEAK;
                    found.push((index, align, Extern { name: symbol.name.into(), weak, btf: id, kind }));
                }
                Err(why) => {
                    externs.by_symbol.insert(index, Err(format!("{}: {why}", symbol.name)));
                }
            }
        }
        // libbpf, cmp_externs: configuration values first, by alignment (largest first) and size, then by name.
        found.sort_by(|(_, a_align, a), (_, b_align, b)| {
            let key = |align: u32, e: &Extern| match e.kind {
                ExternKind::Kconfig { size, .. } => (false, Reverse(align), size),
                ExternKind::TypedKsym { .. } | ExternKind::Ksym | ExternKind::Kfunc { .. } => (true, Reverse(0), 0),
            };
            key(*a_align, a).cmp(&key(*b_align, b)).then_with(|| a.name.cmp(&b.name))
        });
        let mut end = 0u32;
        for (symbol, align, mut found) in found {
            if let ExternKind::Kconfig { size, offset, .. } = &mut found.kind {
                let place =
                    end.checked_next_multiple_of(align).and_then(|start| Some((start, start.checked_add(*size)?)));
                let Some((start, stop)) = place else {
                    return Err(elf.damaged("its .kconfig values are larger than 4 GiB"));
                };
                (*offset, end) = (start, stop);
            }
            let id = ExternId(externs.list.len());
            externs.by_symbol.insert(symbol, Ok(id));
            externs.by_type.insert(found.btf, id);
            externs.list.push(found);
        }
        Ok(externs)
    }

    /// Bytes of `.kconfig`; `None`: the object has no such values.
    pub(crate) fn kconfig_size(&self) -> Option<u32> {
        let ends = self.list.iter().filter_map(|e| match e.kind {
            ExternKind::Kconfig { size, offset, .. } => Some(offset.saturating_add(size)),
            _ => None,
        });
        ends.max()
    }
}

/// The `DATASEC` in which each variable or function is.
fn sections_of_vars<'a>(btf: &Btf, types: &Types<'a>) -> Result<HashMap<TypeId, &'a str>, ringfence_btf::Error> {
    let mut sections = HashMap::new();
    for (id, name) in &types.datasecs {
        if let Def::Datasec(datasec) = btf.get(*id)?.def {
            for var in datasec.vars() {
                sections.entry(var.ty).or_insert(*name);
            }
        }
    }
    Ok(sections)
}

/// What an extern is, and its alignment in `.kconfig`; the inner error says why it cannot be used.
fn kind_of(
    btf: &Btf,
    id: TypeId,
    section: Option<&str>,
) -> Result<Result<(ExternKind, u32), String>, ringfence_btf::Error> {
    Ok(match (section, btf.get(id)?.def) {
        (Some(".kconfig"), Def::Var { ty, .. }) => match kconfig_type(btf, ty)? {
            Some((value, size, align)) => Ok((ExternKind::Kconfig { value, size, offset: 0 }, align)),
            None => Err("a configuration value is a bool, a char, an integer, an enum libbpf_tristate or an array \
                         of char"
                .into()),
        },
        (Some(".ksyms"), Def::Var { ty, .. }) => match btf.resolve(ty)?.id {
            TypeId::VOID => Ok((ExternKind::Ksym, 0)),
            ty => Ok((ExternKind::TypedKsym { ty }, 0)),
        },
        (Some(".ksyms"), Def::Func { proto, .. }) => Ok((ExternKind::Kfunc { proto }, 0)),
        // Static linking leaves no other externs (libbpf: "unrecognized extern section").
        (section, _) => Err(format!(
            "it is declared for {}, and defined nowhere; link the object with the one that defines it \
             (`bpftool gen object OUT A B`), or declare it with __kconfig or __ksym",
            section.map_or("another file".into(), |name| format!("section {name}"))
        )),
    })
}

/// How a configuration value is read, its size and alignment (libbpf, `find_kcfg_type`).
fn kconfig_type(btf: &Btf, id: TypeId) -> Result<Option<(KconfigType, u32, u32)>, ringfence_btf::Error> {
    let ty = btf.resolve(id)?;
    Ok(match ty.def {
        Def::Int(int) if int.bool => (int.size == 1).then_some((KconfigType::Bool, 1, 1)),
        Def::Int(int) if int.size == 1 => Some((KconfigType::Char, 1, 1)),
        Def::Int(int) if matches!(int.size, 2 | 4 | 8) => {
            Some((KconfigType::Int { signed: int.signed }, int.size, int.size))
        }
        Def::Enum(e) if ty.name == "libbpf_tristate" && (e.is_64 || e.size == 4) && matches!(e.size, 1 | 2 | 4 | 8) => {
            Some((KconfigType::Tristate, e.size, e.size))
        }
        Def::Array(array) if array.len > 0 => match btf.resolve(array.element)?.def {
            Def::Int(int) if int.size == 1 && !int.bool => Some((KconfigType::CharArray, array.len, 1)),
            _ => None,
        },
        _ => None,
    })
}
