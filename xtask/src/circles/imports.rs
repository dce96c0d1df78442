//! Which module of a crate imports what from which other module.
//!
//! 1. [`Crate::read`] parses the root and follows each `mod` to its file. Tests' modules are left
//!    out.
//! 2. Each module has a table of its names: what it defines, what it declares, what it imports.
//! 3. [`Crate::imports`] walks every `use` and every path, in macros and attributes too, and
//!    resolves it to the module that defines the item. A re-export on the way does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, Meta, UseTree};

/// The names of a module and of those that contain it, the outermost first. The crate's root has
/// none.
pub(super) type ModulePath = Vec<String>;

/// Most re-exports that lead from a name to its definition. More are taken for names that stand for
/// each other.
const MAX_STEPS: usize = 32;

/// The modules of one crate.
pub(super) struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

struct Module {
    file: PathBuf,
    items: Vec<Item>,
    names: BTreeMap<String, Name>,
    /// Modules and enums of which everything is imported.
    globs: Vec<Vec<String>>,
}

/// What a name of a module stands for.
#[derive(Clone)]
enum Name {
    Defined,
    Declared,
    Imported(Vec<String>),
}

/// One file needs what another defines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    /// The module that imports.
    pub(super) from: ModulePath,
    /// The module that defines what is imported.
    pub(super) to: ModulePath,
    /// The file of `from`.
    pub(super) from_file: PathBuf,
    /// The file of `to`, another one.
    pub(super) to_file: PathBuf,
    /// What is imported: the last name of its path.
    pub(super) name: String,
}

impl Crate {
    /// Parses the crate whose root is `root`. `read` gives a file's text, or nothing if there is no
    /// such file.
    pub(super) fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Self> {
        let mut modules = BTreeMap::new();
        let folder = root.parent().unwrap_or(Path::new(""));
        let mut open = vec![(ModulePath::new(), root.to_owned(), folder.to_owned(), None)];
        while let Some((path, file, folder, inline)) = open.pop() {
            let items = match inline {
                Some(items) => items,
                None => {
                    let text = read(&file).with_context(|| format!("reading {}", file.display()))?;
                    syn::parse_file(&text)
                        .with_context(|| format!("parsing {}", file.display()))?
                        .items
                }
            };
            let mut module = Module::new(file.clone());
            for item in items {
                if is_of_tests(attributes(&item)) {
                    continue;
                }
                module.name(&item);
                let Item::Mod(declared) = item else {
                    module.items.push(item);
                    continue;
                };
                let name = declared.ident.to_string();
                let mut child = path.clone();
                child.push(name.clone());
                let inner = folder.join(&name);
                let next = match declared.content {
                    Some((_, items)) => (child, file.clone(), inner, Some(items)),
                    None => (child, file_of(&folder, &name, read)?, inner, None),
                };
                open.push(next);
            }
            modules.insert(path, module);
        }
        Ok(Self { modules })
    }

    /// What the crate's files import from each other, sorted.
    pub(super) fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (from, module) in &self.modules {
            let mut paths = Paths::default();
            for item in &module.items {
                paths.visit_item(item);
            }
            for path in paths.found {
                let Some(to) = self.module_that_defines(from, &path) else {
                    continue;
                };
                let to_file = &self.modules[&to].file;
                if *to_file != module.file {
                    imports.insert(Import {
                        from: from.clone(),
                        to_file: to_file.clone(),
                        to,
                        from_file: module.file.clone(),
                        name: path.last().cloned().unwrap_or_default(),
                    });
                }
            }
        }
        imports
    }

    /// The module that defines the item to which `path` leads from module `within`. None for a path
    /// that leaves the crate or ends at a module.
    fn module_that_defines(&self, within: &ModulePath, path: &[String]) -> Option<ModulePath> {
        // A name on its own was defined here, or imported by a `use`, whose path is looked at.
        if path.len() < 2 {
            return None;
        }
        let (module, is_item) = self.resolve(within, path, 0)?;
        is_item.then_some(module)
    }

    /// Where `segments` lead from module `within`: to an item of the module that is returned
    /// (true), or to that module itself (false).
    fn resolve(&self, within: &ModulePath, segments: &[String], steps: usize) -> Option<(ModulePath, bool)> {
        if steps > MAX_STEPS {
            return None;
        }
        let mut at = within.clone();
        for (index, segment) in segments.iter().enumerate() {
            match segment.as_str() {
                "crate" => at.clear(),
                "self" if index == 0 => {}
                "super" => drop(at.pop()?),
                name => match self.modules.get(&at)?.names.get(name) {
                    Some(Name::Defined) => return Some((at, true)),
                    Some(Name::Declared) => at.push(name.to_owned()),
                    Some(Name::Imported(target)) => {
                        let target = [target.as_slice(), &segments[index + 1..]].concat();
                        return self.resolve(&at, &target, steps + 1);
                    }
                    None => return self.through_globs(&at, &segments[index..], steps),
                },
            }
        }
        self.modules.contains_key(&at).then_some((at, false))
    }

    fn through_globs(&self, at: &ModulePath, rest: &[String], steps: usize) -> Option<(ModulePath, bool)> {
        self.modules.get(at)?.globs.iter().find_map(|glob| {
            let target = [glob.as_slice(), rest].concat();
            self.resolve(at, &target, steps + 1)
        })
    }
}

impl Module {
    fn new(file: PathBuf) -> Self {
        Self {
            file,
            items: Vec::new(),
            names: BTreeMap::new(),
            globs: Vec::new(),
        }
    }

    fn name(&mut self, item: &Item) {
        let ident = match item {
            Item::Use(item) => {
                for (path, name) in leaves(item) {
                    if name == "*" {
                        self.globs.push(path);
                    } else if path.len() > 1 {
                        self.names.insert(name, Name::Imported(path));
                    }
                }
                return;
            }
            Item::Mod(item) => {
                self.names.insert(item.ident.to_string(), Name::Declared);
                return;
            }
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Union(item) => &item.ident,
            Item::Macro(item) => match &item.ident {
                Some(ident) => ident,
                None => return,
            },
            _ => return,
        };
        self.names.insert(ident.to_string(), Name::Defined);
    }
}

/// The file of a module `name`, which a module declares whose children stand in `folder`.
fn file_of(folder: &Path, name: &str, read: &dyn Fn(&Path) -> Option<String>) -> Result<PathBuf> {
    let candidates = [
        folder.join(format!("{name}.rs")),
        folder.join(name).join("mod.rs"),
    ];
    match candidates.into_iter().find(|file| read(file).is_some()) {
        Some(file) => Ok(file),
        None => bail!("module {name} has no file in {}", folder.display()),
    }
}

/// Each path that `item` imports, with its name in the importing module. For `path::*` that is
/// `path` and the name `*`.
fn leaves(item: &ItemUse) -> Vec<(Vec<String>, String)> {
    let mut leaves = Vec::new();
    let mut open = vec![(Vec::new(), &item.tree)];
    while let Some((mut path, tree)) = open.pop() {
        let (ident, name) = match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                open.push((path, &tree.tree));
                continue;
            }
            UseTree::Group(tree) => {
                open.extend(tree.items.iter().map(|item| (path.clone(), item)));
                continue;
            }
            UseTree::Glob(_) => {
                leaves.push((path, "*".to_owned()));
                continue;
            }
            UseTree::Name(tree) => (&tree.ident, &tree.ident),
            UseTree::Rename(tree) => (&tree.ident, &tree.rename),
        };
        if ident == "self" {
            let name = path.last().cloned().unwrap_or_default();
            leaves.push((path, name));
        } else {
            path.push(ident.to_string());
            leaves.push((path, name.to_string()));
        }
    }
    leaves
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
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
    }
}

/// True of `#[cfg(test)]` and `#[cfg(all(test, …))]`.
fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test") || condition.starts_with("all(test")
        }
        _ => false,
    })
}

/// Collects the paths in items that are not tests'.
#[derive(Default)]
struct Paths {
    found: BTreeSet<Vec<String>>,
}

impl Paths {
    /// Macros are not expanded: names with `::` between them count as paths.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 => path.push(ident.to_string()),
                TokenTree::Ident(ident) => {
                    self.found
                        .insert(std::mem::replace(&mut path, vec![ident.to_string()]));
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => {
                    self.found.insert(std::mem::take(&mut path));
                    self.add_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.found.insert(std::mem::take(&mut path));
                }
            }
            colons = 0;
        }
        self.found.insert(path);
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_of_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        // A re-export counts where somebody uses it.
        if matches!(item.vis, syn::Visibility::Inherited) {
            let imported = leaves(item).into_iter().filter(|(_, name)| name != "*");
            self.found.extend(imported.map(|(path, _)| path));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string());
        self.found.insert(segments.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, found: &'ast syn::Macro) {
        self.visit_path(&found.path);
        self.add_tokens(found.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.add_tokens(list.tokens.clone());
        }
    }
}
