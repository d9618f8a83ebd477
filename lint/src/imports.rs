//! Which file of a crate uses which other, and where.

use std::collections::{BTreeMap, HashSet};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit_mut::{self, VisitMut};
use syn::{Block, ImplItem, Item, ItemImpl, Stmt};

use crate::modules::{Crate, Import, Place, is_test, roots};
use crate::tree::Tree;

/// One file uses something that another one defines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The file that uses it.
    pub from: String,
    /// The file that defines it.
    pub to: String,
    /// The first such line of `from`, counted from 1.
    pub line: usize,
    /// The path as it stands there.
    pub path: String,
}

/// Returns the edges between files of all crates, one for each pair of files. Code for tests only makes none, and
/// neither does a module that only declares its children or makes their names its own.
pub fn edges(tree: &Tree) -> Vec<Edge> {
    let mut edges = BTreeMap::new();
    for root in roots(tree) {
        let krate = Crate::read(tree, root);
        for module in (0..krate.modules.len()).filter(|module| !krate.modules[*module].test) {
            collect(tree, &krate, module, &mut edges);
        }
    }
    edges.into_values().collect()
}

/// Returns the Rust files that belong to no crate, so that the compiler never sees them.
pub fn orphans(tree: &Tree) -> Vec<String> {
    let mut reached = HashSet::new();
    for root in roots(tree) {
        reached.extend(Crate::read(tree, root).modules.iter().map(|module| module.file));
    }
    let rust = tree.sources.iter().enumerate().filter(|(_, source)| source.is("rs"));
    rust.filter(|(at, _)| !reached.contains(at)).map(|(_, source)| source.path.clone()).collect()
}

type Edges = BTreeMap<(String, String), Edge>;

fn collect(tree: &Tree, krate: &Crate, module: usize, edges: &mut Edges) {
    let this = &krate.modules[module];
    let mut seen = Seen::default();
    for item in &this.items {
        let mut item = item.clone();
        WithoutTests.visit_item_mut(&mut item);
        seen.scan(item.to_token_stream());
    }
    let mut add = |target: usize, line: usize, path: &[String]| {
        let path_of = |module: usize| tree.sources[krate.modules[module].file].path.clone();
        let (from, to) = (path_of(module), path_of(target));
        if from != to && !krate.modules[target].test {
            let edge = Edge { from: from.clone(), to: to.clone(), line, path: path.join("::") };
            edges.entry((from, to)).and_modify(|known| *known = known.clone().min(edge.clone())).or_insert(edge);
        }
    };
    for (path, line) in &seen.paths {
        if let Some(place) = krate.resolve(module, path) {
            add(place.module(), *line, path);
        }
    }
    for import in &this.imports {
        if let Some(place) =
            krate.resolve(module, &import.path).filter(|place| counts(krate, module, *place, import, &seen))
        {
            add(place.module(), import.line, &import.path);
        }
    }
}

/// Returns whether a `use` is an edge by itself.
fn counts(krate: &Crate, module: usize, place: Place, import: &Import, seen: &Seen) -> bool {
    if import.public && krate.is_below(place.module(), module) {
        // A name of a child that is made this module's own: an edge only if this module's own code uses it.
        return seen.words.contains(&import.name);
    }
    match place {
        // Paths that begin with the module's name are edges to what they name.
        Place::Module(_) => import.name == "*" || !seen.heads.contains(&import.name),
        Place::Item(_) => true,
    }
}

/// The paths and words of some code.
#[derive(Default)]
struct Seen {
    /// Paths of at least two names, with their lines.
    paths: Vec<(Vec<String>, usize)>,
    /// Their first names.
    heads: HashSet<String>,
    /// All names.
    words: HashSet<String>,
}

impl Seen {
    /// Looks through tokens, those in calls of macros among them; leaves out `use`s.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        let mut in_use = false;
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    if colons != 2 {
                        self.end(&mut path, line);
                        line = word.span().start().line;
                    }
                    let word = word.to_string();
                    in_use |= word == "use" && path.is_empty();
                    // `::name` without a name before it is another crate's.
                    let foreign = colons == 2 && path.is_empty();
                    if !in_use && !foreign {
                        self.words.insert(word.clone());
                        path.push(word);
                    }
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.end(&mut path, line);
                    colons = 0;
                    match other {
                        TokenTree::Group(group) if !in_use => self.scan(group.stream()),
                        TokenTree::Punct(mark) if mark.as_char() == ';' => in_use = false,
                        _ => {}
                    }
                }
            }
        }
        self.end(&mut path, line);
    }

    fn end(&mut self, path: &mut Vec<String>, line: usize) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.heads.insert(path[0].clone());
            self.paths.push((path, line));
        }
    }
}

/// Removes what is compiled for tests only.
struct WithoutTests;

impl VisitMut for WithoutTests {
    fn visit_item_impl_mut(&mut self, item: &mut ItemImpl) {
        item.items.retain(|item| match item {
            ImplItem::Fn(item) => !is_test(&item.attrs),
            ImplItem::Const(item) => !is_test(&item.attrs),
            _ => true,
        });
        visit_mut::visit_item_impl_mut(self, item);
    }

    fn visit_block_mut(&mut self, block: &mut Block) {
        block.stmts.retain(|statement| match statement {
            Stmt::Item(Item::Use(item)) => !is_test(&item.attrs),
            Stmt::Item(Item::Fn(item)) => !is_test(&item.attrs),
            Stmt::Local(local) => !is_test(&local.attrs),
            _ => true,
        });
        visit_mut::visit_block_mut(self, block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = [("Cargo.toml", "")].iter().chain(files).copied().collect();
        edges(&Tree::of(&files)).iter().map(|edge| format!("{}:{} {}", edge.from, edge.line, edge.to)).collect()
    }

    #[test]
    fn uses_and_paths_are_edges() {
        let edges = found(&[
            ("src/lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
            ("src/a.rs", "use crate::b::B;\nfn f() { crate::c::f() }\nfn g() { println!(\"{}\", super::d::g()) }"),
            ("src/b.rs", "use super::e;\npub struct B;\nfn f() -> e::E { todo!() }"),
            ("src/c.rs", "pub fn f() { use crate::e::E; let _: E; }"),
            ("src/d.rs", "use std::fmt; pub fn g() -> fmt::Result { Ok(()) }"),
            ("src/e.rs", "pub struct E;"),
        ]);
        assert_eq!(
            edges,
            [
                "src/a.rs:1 src/b.rs",
                "src/a.rs:2 src/c.rs",
                "src/a.rs:3 src/d.rs",
                "src/b.rs:3 src/e.rs",
                "src/c.rs:1 src/e.rs"
            ]
        );
    }

    #[test]
    fn a_re_export_is_no_edge_and_leads_to_what_it_names() {
        let edges = found(&[
            ("src/lib.rs", "mod a; mod user;"),
            ("src/a/mod.rs", "mod child; mod own; pub use child::shared; pub use own::Own;\nfn f(_: Own) {}"),
            ("src/a/child.rs", "use super::Own; pub fn shared(_: Own) {}"),
            ("src/a/own.rs", "pub struct Own;"),
            ("src/user.rs", "use crate::a;\nfn f() { a::shared() }"),
        ]);
        assert_eq!(
            edges,
            ["src/a/child.rs:1 src/a/own.rs", "src/a/mod.rs:1 src/a/own.rs", "src/user.rs:2 src/a/child.rs"]
        );
    }

    #[test]
    fn tests_make_no_edge() {
        let edges = found(&[
            ("src/lib.rs", "mod a; mod b; #[cfg(test)] mod tests;"),
            (
                "src/a.rs",
                "#[cfg(test)] use crate::b::f;\n#[cfg(test)] mod tests { use crate::b::f; }\nstruct S;\n\
                 impl S { #[cfg(test)] fn g() { crate::b::f() } }",
            ),
            ("src/b.rs", "pub fn f() {}"),
            ("src/tests.rs", "use crate::a;"),
        ]);
        assert!(edges.is_empty(), "{edges:?}");
    }

    #[test]
    fn a_file_of_no_crate_is_found() {
        let tree = Tree::of(&[("Cargo.toml", ""), ("src/lib.rs", "mod a;"), ("src/a.rs", ""), ("src/lost.rs", "")]);
        assert_eq!(orphans(&tree), ["src/lost.rs"]);
    }
}
