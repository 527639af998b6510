//! Functions by their paths in the source, which compilers put into symbols in ways of their own.

use cpp_demangle::{DemangleOptions, Symbol};

/// Longer symbols are left alone: what is written by a person is short.
const MOST_BYTES: usize = 4096;

/// The path of a function of Rust or C++: `demo::work`, `Shop::sell`; without the hash that Rust adds, and without the types that
/// a function of C++ takes and gives.
pub(super) fn path(symbol: &str) -> Option<String> {
    if symbol.len() > MOST_BYTES {
        return None;
    }
    if let Ok(name) = rustc_demangle::try_demangle(symbol) {
        return Some(format!("{name:#}"));
    }
    if !symbol.starts_with("_Z") {
        return None;
    }
    let options = DemangleOptions::new().no_params().no_return_type();
    Symbol::new(symbol).ok()?.demangle_with_options(&options).ok().map(without_tags)
}

/// `Shop::name[abi:cxx11]`: nobody writes that in a source.
fn without_tags(mut path: String) -> String {
    while let Some(start) = path.find("[abi:")
        && let Some(length) = path.get(start..).and_then(|rest| rest.find(']'))
    {
        path.replace_range(start..=start + length, "");
    }
    path
}

/// What a symbol of a function of this path has in it, whatever else there is.
pub(super) fn word(path: &str) -> &str {
    let last = path.rsplit_once("::").map_or(path, |(_, last)| last);
    last.split_once('<').map_or(last, |(word, _)| word).trim_start_matches('~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_rust_and_of_cpp() {
        for (symbol, known) in [
            ("_ZN4demo4work17h0123456789abcdefE", Some("demo::work")),
            ("_RNvC6_123foo3bar", Some("123foo::bar")),
            ("_ZN4Shop4sellEPKci", Some("Shop::sell")),
            ("_ZN4Shop4nameB5cxx11Ei", Some("Shop::name")),
            ("_Z4worki", Some("work")),
            ("_Z3maxIiET_S0_S0_", Some("max<int>")),
            ("work", None),
            ("_Z", None),
        ] {
            assert_eq!(path(symbol).as_deref(), known, "{symbol}");
            assert!(known.is_none_or(|known| symbol.contains(word(known))), "{symbol}");
        }
    }
}
