//! The rules for Rust, on its syntax tree: what strings, comments and macros hold is never code.

use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Block, Expr, ExprCall, ImplItemFn, Item, ItemFn, Lit, Meta, Signature, TraitItemFn,
};

use super::{Finding, MAX_FILE_LINES, MAX_FUNCTION_LINES};

/// A parsed file of the tree.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    text: &'a str,
    file: syn::File,
}

impl<'a> Source<'a> {
    pub(super) fn parse(path: &'a Path, text: &'a str) -> Result<Self, Finding> {
        let file = syn::parse_file(text).map_err(|error| {
            Finding::at(path, error.span().start().line, format!("does not parse: {error}"))
        })?;
        Ok(Self { path, text, file })
    }

    /// The test modules that live in files of their own, as paths without extension.
    pub(super) fn test_modules(&self) -> Vec<PathBuf> {
        let stem = self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let directory = match stem {
            "lib" | "main" => self.path.with_file_name(""),
            _ => self.path.with_extension(""),
        };
        let declared = |item: &Item| match item {
            Item::Mod(module) if module.content.is_none() && is_for_tests(&module.attrs) => {
                Some(directory.join(module.ident.to_string()))
            }
            _ => None,
        };
        self.file.items.iter().filter_map(declared).collect()
    }

    /// `is_test` tells that the whole file is test code.
    pub(super) fn check(&self, is_test: bool) -> Vec<Finding> {
        let mut checker =
            Checker { path: self.path, in_test: is_test, test_lines: 0, findings: Vec::new() };
        checker.head(self.text);
        checker.examples(self.text);
        checker.visit_file(&self.file);
        let lines = self.text.lines().count() - checker.test_lines;
        if !is_test && lines > MAX_FILE_LINES {
            let why = format!("{lines} lines without tests; at most {MAX_FILE_LINES}");
            checker.say(MAX_FILE_LINES + 1, why);
        }
        checker.findings
    }
}

struct Checker<'a> {
    path: &'a Path,
    /// Whether what is visited is built for tests only.
    in_test: bool,
    /// Lines of test items in a file that is not a test as a whole.
    test_lines: usize,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn say(&mut self, line: usize, why: impl Into<String>) {
        self.findings.push(Finding::at(self.path, line, why));
    }

    fn head(&mut self, text: &str) {
        if self.path.file_name().is_some_and(|name| name == "mod.rs") {
            self.say(1, "no `mod.rs`: a module lies beside its directory");
        }
        // A crate whose README is its documentation says so in an attribute.
        let documents = |line: &str| line.starts_with("//!") || line.starts_with("#![doc = ");
        let head = text.lines().find(|line| documents(line) || !line.starts_with("#!"));
        if !head.is_some_and(documents) {
            self.say(1, "`//!` comes first: say what the file is for");
        }
    }

    /// An example in the documentation is compiled, or is not Rust.
    fn examples(&mut self, text: &str) {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            let fence = comment.and_then(|comment| comment.trim_start().strip_prefix("```"));
            if fence.is_some_and(|info| info.split(',').any(|word| word.trim() == "ignore")) {
                self.say(index + 1, "an ignored example: let it compile, or say `text`");
            }
        }
    }

    fn function(&mut self, attrs: &[Attribute], signature: &Signature, block: &Block) {
        let start = signature.span().start().line;
        let lines = block.span().end().line - start + 1;
        if lines > MAX_FUNCTION_LINES {
            let name = &signature.ident;
            let why = format!("`{name}` has {lines} lines; at most {MAX_FUNCTION_LINES}");
            self.say(start, why);
        }
        if let Some(ignored) = attrs.iter().find(|attr| attr.path().is_ident("ignore")) {
            let why = "an ignored test: assert what happens today instead";
            self.say(ignored.span().start().line, why);
        }
    }

    /// Visits an item, as test code if its attributes say so.
    fn within(&mut self, attrs: &[Attribute], node: &impl Spanned, visit: impl FnOnce(&mut Self)) {
        let enters = !self.in_test && is_for_tests(attrs);
        if enters {
            let span = node.span();
            self.in_test = true;
            self.test_lines += span.end().line - span.start().line + 1;
        }
        visit(self);
        if enters {
            self.in_test = false;
        }
    }
}

impl<'ast> Visit<'ast> for Checker<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attrs: &[Attribute] = match item {
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            Item::Type(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &[],
        };
        self.within(attrs, item, |this| visit::visit_item(this, item));
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.attrs, &item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.within(&item.attrs, item, |this| {
            this.function(&item.attrs, &item.sig, &item.block);
            visit::visit_impl_item_fn(this, item);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.attrs, &item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if self.in_test
            && let Expr::Path(callee) = &*call.func
            && let Some(name) = callee.path.segments.last().map(|segment| &segment.ident)
        {
            let line = call.span().start().line;
            if name == "sleep" {
                self.say(line, "a test that sleeps: wait for the event, or move a clock");
            } else if name == "bind"
                && let Some(port) = call.args.first().and_then(fixed_port)
            {
                self.say(line, format!("a test that binds port {port}: bind port 0 and ask"));
            }
        }
        visit::visit_expr_call(self, call);
    }
}

/// `#[test]`, `#[tokio::test]`, or a `cfg` that holds in tests only.
fn is_for_tests(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| match &attr.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            names(&list.tokens, "test")
                && !names(&list.tokens, "not")
                && !names(&list.tokens, "any")
        }
        meta => meta.path().segments.last().is_some_and(|segment| segment.ident == "test"),
    })
}

fn names(tokens: &TokenStream, word: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => names(&group.stream(), word),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// The port other than 0 in an address written out: `"127.0.0.1:2525"` or `(host, 2525)`.
fn fixed_port(address: &Expr) -> Option<u16> {
    let port = match address {
        Expr::Reference(reference) => return fixed_port(&reference.expr),
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => text.value().rsplit_once(':')?.1.parse().ok()?,
            _ => return None,
        },
        Expr::Tuple(tuple) => match tuple.elems.last()? {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Int(port) => port.base10_parse().ok()?,
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    };
    (port != 0).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings of one file of Rust, without its path.
    fn said(path: &str, text: &str) -> Vec<String> {
        let path = Path::new(path);
        let source = Source::parse(path, text).unwrap_or_else(|finding| panic!("{finding}"));
        let is_test = path.starts_with("tests");
        let findings = source.check(is_test);
        findings.iter().map(|f| format!("{}: {}", f.line.unwrap_or_default(), f.message)).collect()
    }

    /// A function of so many lines, first and last included.
    fn function(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2))
    }

    #[test]
    fn files_are_counted_without_their_tests() {
        let of = |lines: usize| format!("//! X.\n{}", "//\n".repeat(lines - 1));
        assert_eq!(said("a.rs", &of(600)), Vec::<String>::new());
        assert_eq!(said("a.rs", &of(601)), ["601: 601 lines without tests; at most 600"]);
        assert_eq!(said("tests/a.rs", &of(601)), Vec::<String>::new());
        let inline = "#[cfg(test)]\nmod tests {\n    #[test]\n    fn t() {}\n}\n";
        assert_eq!(said("a.rs", &format!("{}{inline}", of(600))), Vec::<String>::new());
        let outline = "#[cfg(not(test))]\nmod m {\n}\n";
        assert_eq!(said("a.rs", &format!("{}{outline}", of(600))).len(), 1);
    }

    #[test]
    fn functions_are_counted_by_their_own_lines() {
        let max = function(MAX_FUNCTION_LINES);
        let over = function(MAX_FUNCTION_LINES + 1);
        let strings =
            format!("fn f() {{\n    let s = r#\"{{ \" // {{\"#;\n{}}}\n", "\n".repeat(60));
        for (text, bad) in [
            (max.clone(), None),
            (format!("/// Doc.\n/// More.\n#[inline]\n{max}"), None),
            (over.clone(), Some(2)),
            (format!("impl X {{\n{over}}}\n"), Some(3)),
            (format!("trait X {{\n{over}}}\n"), Some(3)),
            (format!("mod m {{\n#[cfg(test)]\nmod t {{\n{over}}}\n}}\n"), Some(5)),
            (strings, None),
        ] {
            let said = said("a.rs", &format!("//! X.\n{text}"));
            let why = "`f` has 71 lines; at most 70";
            let expected: Vec<_> = bad.map(|line| format!("{line}: {why}")).into_iter().collect();
            assert_eq!(said, expected, "{text}");
        }
    }

    #[test]
    fn heads_and_examples_are_read() {
        for (path, text, bad) in [
            ("a.rs", "//! X.\n", false),
            ("a.rs", "#![no_std]\n//! X.\n", false),
            ("a.rs", "#![doc = include_str!(\"../README.md\")]\n\nmod m;\n", false),
            ("a.rs", "#![doc(hidden)]\n\nmod m;\n", true),
            ("a.rs", "", true),
            ("a.rs", "\n//! X.\n", true),
            ("a.rs", "// X.\n//! X.\n", true),
            ("mod.rs", "//! X.\n", true),
            ("a.rs", "//! X.\n//!\n//! ```ignore\n//! ```\n", true),
            ("a.rs", "//! X.\n//!\n//! ```no_run\n//! ```\n", false),
            ("a.rs", "//! X.\n#[test]\n#[ignore]\nfn t() {}\n", true),
            ("a.rs", "//! X.\n#[test]\n#[ignore = \"slow\"]\nfn t() {}\n", true),
            ("a.rs", "//! X.\nconst S: &str = \"#[ignore]\";\n", false),
        ] {
            assert_eq!(said(path, text).len(), usize::from(bad), "{path}: {text}");
        }
    }

    #[test]
    fn tests_neither_sleep_nor_choose_ports() {
        for (call, bad) in [
            ("std::thread::sleep(d)", true),
            ("tokio::time::sleep(d).await", true),
            ("clock.sleep(d)", false),
            ("TcpListener::bind(\"127.0.0.1:2525\")", true),
            ("TcpListener::bind(\"127.0.0.1:0\")", false),
            ("TcpListener::bind((LOCALHOST, 2525))", true),
            ("TcpListener::bind((LOCALHOST, 0))", false),
            ("UnixListener::bind(\"a/socket\")", false),
            ("parse(\"127.0.0.1:2525\")", false),
        ] {
            let test = format!("//! X.\n#[tokio::test]\nasync fn t() {{\n    {call};\n}}\n");
            let said_of_test = said("a.rs", &test);
            assert_eq!(said_of_test.len(), usize::from(bad), "{call}");
            assert!(said_of_test.iter().all(|said| said.starts_with("4: ")), "{said_of_test:?}");
            let code = test.replace("#[tokio::test]\n", "");
            assert_eq!(said("a.rs", &code), Vec::<String>::new(), "{call}");
            assert_eq!(said("tests/a.rs", &code).len(), usize::from(bad), "{call}");
        }
    }

    #[test]
    fn what_does_not_parse_is_a_finding() {
        let finding = Source::parse(Path::new("a.rs"), "//! X.\nfn {\n").err().unwrap();
        assert_eq!(finding.line, Some(2), "{finding}");
    }
}
