//! A function has at most 60 lines, is nested at most 5 blocks deep, and takes at most 7 arguments.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ExprMatch, ImplItemFn, ItemFn, Signature, TraitItemFn};

use crate::finding::Finding;
use crate::tree::Tree;

/// The most lines, from `fn` to the closing brace.
const MOST_LINES: usize = 60;
/// The most blocks within one another. The body itself does not count.
const MOST_NESTED: usize = 5;
/// The most arguments, `self` among them.
const MOST_ARGUMENTS: usize = 7;

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, syntax) in tree.rust() {
        let mut functions = Functions { file: &source.path, findings: &mut findings };
        functions.visit_file(syntax);
    }
    findings
}

struct Functions<'a> {
    file: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl Functions<'_> {
    fn look_at(&mut self, signature: &Signature, block: &Block) {
        let name = signature.ident.to_string();
        let first = signature.fn_token.span().start().line;
        let lines = block.brace_token.span.close().end().line + 1 - first;
        if lines > MOST_LINES {
            self.add(first, format!("{name} has {lines} lines, more than {MOST_LINES}"));
        }
        let nested = deepest(block);
        if nested > MOST_NESTED {
            self.add(first, format!("{name} is nested {nested} blocks deep, more than {MOST_NESTED}"));
        }
        let arguments = signature.inputs.len();
        // C decides what its callbacks take.
        if signature.abi.is_none() && arguments > MOST_ARGUMENTS {
            self.add(first, format!("{name} takes {arguments} arguments, more than {MOST_ARGUMENTS}"));
        }
    }

    fn add(&mut self, line: usize, text: String) {
        self.findings.push(Finding::new(self.file, line, text));
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.look_at(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.look_at(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.look_at(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let text = quote::ToTokens::to_token_stream(attribute).to_string();
        if text.contains("too_many_arguments") {
            let line = attribute.span().start().line;
            self.add(line, format!("clippy is silenced; take at most {MOST_ARGUMENTS} arguments instead"));
        }
    }
}

/// Returns how many blocks of a function stand within one another at most, the braces of `match` among them.
fn deepest(block: &Block) -> usize {
    let mut depth = Depth::default();
    visit::visit_block(&mut depth, block);
    depth.most
}

#[derive(Default)]
struct Depth {
    now: usize,
    most: usize,
}

impl Depth {
    fn within(&mut self, visit: impl FnOnce(&mut Self)) {
        self.now += 1;
        self.most = self.most.max(self.now);
        visit(self);
        self.now -= 1;
    }
}

impl<'ast> Visit<'ast> for Depth {
    fn visit_block(&mut self, block: &'ast Block) {
        self.within(|this| visit::visit_block(this, block));
    }

    fn visit_expr_match(&mut self, expression: &'ast ExprMatch) {
        self.within(|this| visit::visit_expr_match(this, expression));
    }

    /// A function in a function is looked at by itself.
    fn visit_item_fn(&mut self, _: &'ast ItemFn) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_long_function_is_found() {
        let long =
            |name: &str, lines: usize| format!("/// About it.\nfn {name}() {{\n{}}}\n", "f();\n".repeat(lines - 2));
        assert!(texts("src/a.rs", &long("fits", 60)).is_empty());
        assert_eq!(texts("src/a.rs", &long("long", 61)), ["src/a.rs:2: long has 61 lines, more than 60"]);
        assert_eq!(texts("src/a.rs", &format!("impl A {{ {} }}", long("method", 70))).len(), 1);
    }

    #[test]
    fn a_deep_function_is_found() {
        let deep = |depth: usize| format!("fn f() {{ {} x() {} }}", "if a {".repeat(depth), "}".repeat(depth));
        assert!(texts("src/a.rs", &deep(5)).is_empty());
        assert_eq!(texts("src/a.rs", &deep(6)), ["src/a.rs:1: f is nested 6 blocks deep, more than 5"]);
        let arms = "fn f() { loop { match a { A => { match b { B => { while c { d() } } } } } } }";
        assert_eq!(texts("src/a.rs", arms).len(), 1);
    }

    #[test]
    fn many_arguments_are_found_and_cannot_be_allowed() {
        let with = |count: usize| format!("fn f({}) {{}}", "_: u8,".repeat(count));
        assert!(texts("src/a.rs", &with(7)).is_empty());
        assert_eq!(texts("src/a.rs", &with(8)), ["src/a.rs:1: f takes 8 arguments, more than 7"]);
        assert!(texts("src/a.rs", &format!("extern \"C\" {}", with(8))).is_empty());
        let silenced = "#[allow(clippy::too_many_arguments)]\nfn f() {}";
        assert_eq!(texts("src/a.rs", silenced).len(), 1);
    }
}
