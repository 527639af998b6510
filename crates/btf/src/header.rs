//! Several types as a C header: everything they need, in an order that a compiler accepts.

use std::collections::{HashMap, HashSet};

use crate::Btf;
use crate::c::Writer;
use crate::types::{Def, Type, TypeId};

/// Deepest nesting of types that need each other.
const MAX_NESTING: u32 = 400;

impl Btf {
    /// Definitions of these types and of all that they need, each once, in order. Of what is only
    /// pointed to, a declaration.
    ///
    /// A second type of the same name gets the suffix `___2`, and so do enumerators.
    pub fn c_header(&self, ids: &[TypeId]) -> String {
        let mut writer = Writer::new(self);
        // The compiler's own, for its own machine.
        writer.ordinary = Some(HashMap::from([("__builtin_va_list".to_owned(), 1)]));
        let mut header = Header {
            writer,
            text: String::new(),
            needed: HashSet::new(),
            declared: HashSet::new(),
            defined: HashSet::new(),
            tags: HashMap::new(),
        };
        for id in ids {
            header.need(*id, true, MAX_NESTING);
        }
        header.text
    }
}

struct Header<'a> {
    writer: Writer<'a>,
    text: String,
    needed: HashSet<(TypeId, bool)>,
    /// Structs and unions of which there is a declaration or more.
    declared: HashSet<TypeId>,
    /// What has its definition, or is about to get it.
    defined: HashSet<TypeId>,
    /// How often each name of a struct, union or enum was wanted.
    tags: HashMap<String, u32>,
}

impl Header<'_> {
    /// Writes what must stand before a use of this type: a use of its `size` too, or only of its name.
    fn need(&mut self, id: TypeId, size: bool, depth: u32) {
        let Some(depth) = depth.checked_sub(1) else { return };
        let btf = self.writer.btf;
        // What is needed already is written, or stands on the way here and will be.
        if !self.needed.insert((id, size)) {
            return;
        }
        let Ok(ty) = btf.get(id) else { return };
        match ty.def {
            Def::Void | Def::Int(_) | Def::Float { .. } | Def::Datasec(_) => {}
            Def::Ptr(to) => self.need(to, false, depth),
            Def::Array(array) => self.need(array.element, true, depth),
            Def::Const(to) | Def::Volatile(to) | Def::Restrict(to) | Def::TypeTag(to) => self.need(to, size, depth),
            Def::DeclTag { ty: to, .. } | Def::Var { ty: to, .. } => self.need(to, size, depth),
            Def::Func { proto, .. } => self.need(proto, false, depth),
            Def::FuncProto(proto) => {
                self.need(proto.ret, false, depth);
                for param in proto.params().filter_map(Result::ok) {
                    self.need(param.ty, false, depth);
                }
            }
            Def::Fwd { .. } => self.declare(&ty),
            Def::Enum(_) if ty.name.is_empty() => {}
            Def::Enum(_) => self.define(&ty, |_| ()),
            Def::Struct(body) | Def::Union(body) if size || ty.name.is_empty() => {
                let members = move |this: &mut Self| {
                    for member in body.members().filter_map(Result::ok) {
                        this.need(member.ty, true, depth);
                    }
                };
                if ty.name.is_empty() { members(self) } else { self.define(&ty, members) }
            }
            Def::Struct(_) | Def::Union(_) => self.declare(&ty),
            Def::Typedef(to) => {
                self.define(&ty, |this| this.need(to, false, depth));
                if size {
                    self.need(to, true, depth);
                }
            }
        }
    }

    fn declare(&mut self, ty: &Type<'_>) {
        if self.declared.insert(ty.id) {
            self.pick_name(ty);
            let text = self.writer.btf.c_declaration(ty.id, "");
            let keyword = text.split(' ').next().unwrap_or_default();
            self.text += &format!("{keyword} {};\n\n", self.writer.name(ty));
        }
    }

    fn define(&mut self, ty: &Type<'_>, before: impl FnOnce(&mut Self)) {
        if self.defined.insert(ty.id) {
            self.pick_name(ty);
            before(self);
            self.declared.insert(ty.id);
            self.text += &self.writer.define(ty.id);
            self.text += "\n\n";
        }
    }

    fn pick_name(&mut self, ty: &Type<'_>) {
        // A mere declaration and a definition elsewhere are one type to C.
        if self.writer.renamed.contains_key(&ty.id) || matches!(ty.def, Def::Fwd { .. }) {
            return;
        }
        let name = self.writer.name(ty);
        let space = match ty.def {
            Def::Typedef(_) => self.writer.ordinary.get_or_insert_default(),
            _ => &mut self.tags,
        };
        let count = space.entry(name.clone()).or_default();
        *count = count.saturating_add(1);
        let name = if *count > 1 { format!("{name}___{count}") } else { name };
        self.writer.renamed.insert(ty.id, name);
    }
}
