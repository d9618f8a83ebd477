//! The modules of a crate, by their files, and what a path in one of them names.

use std::collections::{HashMap, HashSet};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

use crate::tree::Tree;

/// Re-exports that lead to re-exports are followed this far.
const DEPTH: usize = 16;

/// One name that a `use` brings.
#[derive(Debug, Clone)]
pub struct Import {
    /// The path from which it is brought.
    pub path: Vec<String>,
    /// The name that it has here; `_` if it has none, `*` for all names.
    pub name: String,
    /// Whether modules outside can use the name as well.
    pub public: bool,
    /// Counted from 1.
    pub line: usize,
}

/// One module. Several of them may stand in one file.
pub struct Module {
    /// The file, as a position in the tree.
    pub file: usize,
    /// The module that declares this one.
    pub parent: Option<usize>,
    /// Whether it is compiled for tests only.
    pub test: bool,
    /// The names that its `use`s bring, those in functions among them.
    pub imports: Vec<Import>,
    /// Its items, but not modules, `use`s and what is compiled for tests only.
    pub items: Vec<Item>,
    children: HashMap<String, usize>,
    names: HashSet<String>,
}

/// All modules of one crate.
pub struct Crate {
    /// The first is the root.
    pub modules: Vec<Module>,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A module.
    Module(usize),
    /// An item of this module.
    Item(usize),
}

impl Place {
    /// Returns the module, or the one that holds the item.
    pub fn module(self) -> usize {
        match self {
            Place::Module(module) | Place::Item(module) => module,
        }
    }
}

/// Returns the files at which crates begin: those that cargo finds by itself, and those that a Cargo.toml names.
pub fn roots(tree: &Tree) -> Vec<usize> {
    let mut roots = HashSet::new();
    for manifest in tree.sources.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        let package = manifest.path.trim_end_matches("Cargo.toml");
        for (at, source) in tree.sources.iter().enumerate() {
            let Some(path) = source.path.strip_prefix(package).filter(|path| path.ends_with(".rs")) else { continue };
            let named = manifest.text.contains(&format!("path = \"{path}\""));
            if named || is_root(path) {
                roots.insert(at);
            }
        }
    }
    let mut roots: Vec<_> = roots.into_iter().collect();
    roots.sort_unstable();
    roots
}

/// Returns whether cargo takes this file of a package for the root of a crate.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let (first, rest) = parts.split_first().unwrap_or((&"", &[]));
    match *first {
        "build.rs" => rest.is_empty(),
        "src" => matches!(rest, ["lib.rs" | "main.rs"] | ["bin", _] | ["bin", _, "main.rs"]),
        "tests" | "benches" | "examples" => matches!(rest, [_] | [_, "main.rs"]),
        _ => false,
    }
}

/// Returns whether code with these attributes is compiled for tests only.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let text = quote::ToTokens::to_token_stream(attribute).to_string();
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        words.contains(&"test") && !words.contains(&"not")
    })
}

impl Crate {
    /// Reads the crate that begins with this file.
    pub fn read(tree: &Tree, root: usize) -> Self {
        let mut this = Self { modules: Vec::new() };
        let path = &tree.sources[root].path;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        this.add_file(tree, root, None, false, &folder);
        this
    }

    /// Adds the module of a file; the files of its children stand in `folder`.
    fn add_file(&mut self, tree: &Tree, file: usize, parent: Option<usize>, test: bool, folder: &str) -> usize {
        let items = tree.sources[file].syntax.as_ref().map(|syntax| syntax.items.clone()).unwrap_or_default();
        self.add(tree, file, parent, test, folder, items)
    }

    fn add(
        &mut self,
        tree: &Tree,
        file: usize,
        parent: Option<usize>,
        test: bool,
        folder: &str,
        items: Vec<Item>,
    ) -> usize {
        let this = self.modules.len();
        let (imports, names) = (Vec::new(), HashSet::new());
        self.modules.push(Module { file, parent, test, imports, items: Vec::new(), children: HashMap::new(), names });
        for item in items {
            match item {
                Item::Mod(module) => self.add_child(tree, this, folder, module),
                item if is_test(attributes(&item)) => {}
                item => self.add_item(this, item),
            }
        }
        this
    }

    fn add_child(&mut self, tree: &Tree, parent: usize, folder: &str, module: ItemMod) {
        let name = module.ident.to_string();
        let test = self.modules[parent].test || is_test(&module.attrs);
        let inside = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let child = if let Some((_, items)) = module.content {
            self.add(tree, self.modules[parent].file, Some(parent), test, &inside, items)
        } else {
            let named = named_file(&module.attrs).map(|path| normal(&format!("{folder}/{path}")));
            let mut candidates = named.into_iter().chain([format!("{inside}.rs"), format!("{inside}/mod.rs")]);
            let Some(file) = candidates.find_map(|path| tree.position(&path)) else { return };
            self.add_file(tree, file, Some(parent), test, &inside)
        };
        self.modules[parent].children.insert(name, child);
    }

    fn add_item(&mut self, module: usize, item: Item) {
        let mut uses = Uses::default();
        uses.visit_item(&item);
        let module = &mut self.modules[module];
        module.imports.extend(uses.imports);
        if let Some(name) = name(&item) {
            module.names.insert(name);
        }
        if !matches!(item, Item::Use(_)) {
            module.items.push(item);
        }
    }

    /// Returns whether `module` is `ancestor` or below it.
    pub fn is_below(&self, module: usize, ancestor: usize) -> bool {
        let mut at = Some(module);
        while let Some(found) = at {
            if found == ancestor {
                return true;
            }
            at = self.modules[found].parent;
        }
        false
    }

    /// Returns what a path in a module leads to, or `None` if that is outside the crate or not known.
    pub fn resolve(&self, module: usize, path: &[String]) -> Option<Place> {
        self.resolve_within(module, path, DEPTH)
    }

    fn resolve_within(&self, module: usize, path: &[String], depth: usize) -> Option<Place> {
        let (first, rest) = path.split_first()?;
        let mut place = match first.as_str() {
            "crate" => Place::Module(0),
            "self" => Place::Module(module),
            "super" => Place::Module(self.modules[module].parent?),
            name => self.lookup(module, name, rest.is_empty(), depth)?,
        };
        for (index, name) in rest.iter().enumerate() {
            let Place::Module(inside) = place else { break };
            place = match name.as_str() {
                "super" => Place::Module(self.modules[inside].parent?),
                name => {
                    let last = index + 1 == rest.len();
                    self.lookup(inside, name, last, depth).unwrap_or(Place::Item(inside))
                }
            };
        }
        Some(place)
    }

    /// Returns what a name means in a module. A module and an item may have the same name: at the end of a path, the
    /// item is preferred.
    fn lookup(&self, module: usize, name: &str, last: bool, depth: usize) -> Option<Place> {
        let depth = depth.checked_sub(1)?;
        let this = &self.modules[module];
        let child = this.children.get(name).map(|child| Place::Module(*child));
        let import = this.imports.iter().find(|import| import.name == name);
        if child.is_some() && !(last && import.is_some()) {
            return child;
        }
        if let Some(import) = import {
            return self.resolve_within(module, &import.path, depth).or(child);
        }
        if this.names.contains(name) {
            return Some(Place::Item(module));
        }
        this.imports.iter().filter(|import| import.name == "*").find_map(|import| {
            let Place::Module(from) = self.resolve_within(module, &import.path, depth)? else { return None };
            self.lookup(from, name, last, depth)
        })
    }
}

/// Collects all `use`s of an item, those in its functions among them.
#[derive(Default)]
struct Uses {
    imports: Vec<Import>,
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        // `use ::name` is another crate's.
        if item.leading_colon.is_none() && !is_test(&item.attrs) {
            let public = !matches!(item.vis, Visibility::Inherited);
            leaves(&item.tree, &mut Vec::new(), public, &mut self.imports);
        }
        visit::visit_item_use(self, item);
    }
}

fn leaves(tree: &UseTree, before: &mut Vec<String>, public: bool, imports: &mut Vec<Import>) {
    let line = tree.span().start().line;
    let mut add = |path: Vec<String>, name: String| imports.push(Import { path, name, public, line });
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            leaves(&path.tree, before, public, imports);
            before.pop();
        }
        UseTree::Name(leaf) if leaf.ident == "self" => {
            add(before.clone(), before.last().cloned().unwrap_or_default());
        }
        UseTree::Name(leaf) => {
            let name = leaf.ident.to_string();
            add([before.as_slice(), std::slice::from_ref(&name)].concat(), name);
        }
        UseTree::Rename(leaf) => {
            let mut path = before.clone();
            if leaf.ident != "self" {
                path.push(leaf.ident.to_string());
            }
            add(path, leaf.rename.to_string());
        }
        UseTree::Glob(_) => add(before.clone(), "*".to_owned()),
        UseTree::Group(group) => {
            for tree in &group.items {
                leaves(tree, before, public, imports);
            }
        }
    }
}

/// Returns the file that `#[path = "…"]` names.
fn named_file(attributes: &[Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let text = quote::ToTokens::to_token_stream(attribute).to_string();
    text.split('"').nth(1).map(str::to_owned)
}

/// Returns a path without its `..`.
pub fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(files: &[(&str, &str)], from: &str, path: &str) -> Option<String> {
        let tree = Tree::of(files);
        let root = roots(&tree)[0];
        let krate = Crate::read(&tree, root);
        let from = krate.modules.iter().position(|module| tree.sources[module.file].path == from).unwrap();
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        let place = krate.resolve(from, &path)?;
        Some(tree.sources[krate.modules[place.module()].file].path.clone())
    }

    const FILES: &[(&str, &str)] = &[
        ("Cargo.toml", ""),
        ("src/lib.rs", "mod a; pub mod b; pub use b::Deep; mod inline { pub mod file; }"),
        ("src/a.rs", "use crate::b; use std::fmt; pub fn local() {}"),
        (
            "src/b/mod.rs",
            "mod deep; mod other; pub use deep::{Deep, deep as renamed}; pub use other::*; pub fn own() {}",
        ),
        ("src/b/deep.rs", "pub struct Deep; pub fn deep() {}"),
        ("src/b/other.rs", "pub fn starred() {}"),
        ("src/inline/file.rs", ""),
    ];

    #[test]
    fn paths_lead_through_re_exports_to_the_file_that_defines() {
        let from_a = |path| lead(FILES, "src/a.rs", path);
        assert_eq!(from_a("crate::Deep").as_deref(), Some("src/b/deep.rs"));
        assert_eq!(from_a("b::renamed").as_deref(), Some("src/b/deep.rs"));
        assert_eq!(from_a("b::starred").as_deref(), Some("src/b/other.rs"));
        assert_eq!(from_a("super::b::own").as_deref(), Some("src/b/mod.rs"));
        assert_eq!(from_a("super::b::Deep::method").as_deref(), Some("src/b/deep.rs"));
        assert_eq!(from_a("crate::inline::file::x").as_deref(), Some("src/inline/file.rs"));
        assert_eq!(from_a("fmt::Display"), None);
        assert_eq!(from_a("local").as_deref(), Some("src/a.rs"));
    }

    #[test]
    fn code_for_tests_is_told_by_its_cfg() {
        let test = |text: &str| is_test(&syn::parse_str::<ItemMod>(&format!("{text} mod x;")).unwrap().attrs);
        assert!(test("#[cfg(test)]"));
        assert!(test("#[cfg(any(test, feature = \"pg_test\"))]"));
        assert!(!test("#[cfg(not(test))]"));
        assert!(!test("#[cfg(feature = \"pg\")]"));
    }

    #[test]
    fn roots_are_those_of_cargo() {
        let tree = Tree::of(&[
            ("Cargo.toml", ""),
            ("src/lib.rs", ""),
            ("src/other.rs", ""),
            ("kit/Cargo.toml", "path = \"odd/place.rs\""),
            ("kit/odd/place.rs", ""),
            ("kit/src/bin/tool.rs", ""),
            ("kit/tests/load/main.rs", ""),
            ("kit/tests/load/merge.rs", ""),
        ]);
        let paths: Vec<_> = roots(&tree).into_iter().map(|at| tree.sources[at].path.as_str()).collect();
        assert_eq!(paths, ["kit/odd/place.rs", "kit/src/bin/tool.rs", "kit/tests/load/main.rs", "src/lib.rs"]);
    }
}
