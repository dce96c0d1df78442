//! Small crates, each a few files of a line or two.

use super::*;

fn imports(files: &[(&str, &str)]) -> BTreeSet<Import> {
    let read = |path: &Path| {
        let found = files.iter().find(|(file, _)| path == Path::new(file));
        found.map(|(_, text)| (*text).to_owned())
    };
    Crate::read(Path::new(files[0].0), &read)
        .expect("a crate that parses")
        .imports()
}

fn told(files: &[(&str, &str)]) -> String {
    complaints(&imports(files), &[]).join("\n")
}

#[test]
fn a_circle_of_two_is_told_file_by_file() {
    let told = told(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use super::a::A; pub struct B;"),
        ("c.rs", "use crate::{a::A, b::B};"),
    ]);
    assert_eq!(
        told,
        "a circle of imports:\n  a.rs imports B from b.rs\n  b.rs imports A from a.rs"
    );
}

#[test]
fn a_circle_of_three_is_found_once() {
    let told = told(&[
        ("main.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b; fn f() { b::g() }"),
        ("b.rs", "pub fn g() { println!(\"{}\", crate::c::H) }"),
        ("c.rs", "pub const H: u8 = 1; struct S(crate::a::A);"),
    ]);
    assert_eq!(told, "", "`A` is not defined: the circle is open");
    let told = self::told(&[
        ("main.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b; fn f() { b::g() } pub struct A;"),
        ("b.rs", "pub fn g() { println!(\"{}\", crate::c::H) }"),
        ("c.rs", "pub const H: u8 = 1; struct S(crate::a::A);"),
    ]);
    assert_eq!(told.matches("a circle").count(), 1, "{told}");
    assert_eq!(told.lines().count(), 4, "{told}");
}

#[test]
fn without_a_circle_nothing_is_told() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::{b::B, c::C}; use std::fmt::Debug;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "pub struct C;"),
    ];
    assert_eq!(told(&files), "");
    assert_eq!(imports(&files).len(), 3);
}

#[test]
fn a_reexport_is_looked_through() {
    let files = [
        ("lib.rs", "mod a; mod inner; pub use a::A;"),
        ("a.rs", "use crate::inner::B; pub struct A;"),
        (
            "inner/mod.rs",
            "mod b; mod other; pub use b::B as B; pub use other::*;",
        ),
        ("inner/b.rs", "use crate::A; pub struct B;"),
        ("inner/other.rs", "pub struct Other;"),
    ];
    assert_eq!(
        told(&files),
        "a circle of imports:\n  a.rs imports B from inner/b.rs\n  inner/b.rs imports A from a.rs"
    );
    let mut by_glob = files;
    by_glob[1].1 = "use crate::inner::Other; pub struct A;";
    assert_eq!(imports(&by_glob).len(), 2);
    by_glob[2].1 = "mod b; mod other; pub use b::B;";
    assert_eq!(imports(&by_glob).len(), 1, "`Other` is not passed on");
}

#[test]
fn a_module_and_its_parts_are_no_circle() {
    let files = [
        ("lib.rs", "mod a; pub const ROOT: u8 = 1; fn f() { a::g() }"),
        ("a.rs", "mod part; use part::Part; pub fn g() {}"),
        (
            "a/part.rs",
            "use super::g; pub struct Part; fn f() { g(); crate::ROOT; }",
        ),
    ];
    assert_eq!(told(&files), "");
    assert_eq!(imports(&files).len(), 4);
}

#[test]
fn a_circle_between_folders_is_one() {
    let told = told(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod one; mod two;"),
        ("a/one.rs", "use crate::b::B;"),
        ("a/two.rs", "pub struct Two;"),
        ("b.rs", "use crate::a::two::Two; pub struct B;"),
    ]);
    assert!(told.contains("a/one.rs imports B from b.rs"), "{told}");
    assert!(told.contains("b.rs imports Two from a/two.rs"), "{told}");
}

#[test]
fn tests_may_import_what_they_like() {
    let files = [
        ("lib.rs", "mod a; mod b; #[cfg(test)] mod testing;"),
        (
            "a.rs",
            "pub struct A; #[cfg(test)] mod tests { use crate::b::B; } #[cfg(test)] use crate::b::B;",
        ),
        ("b.rs", "use crate::a::A; pub struct B;"),
    ];
    assert_eq!(told(&files), "");
}

#[test]
fn an_allowed_import_is_needed_or_named() {
    let entry = |from_file, to_file| Allowed {
        from_file,
        to_file,
        reason: "it will go",
    };
    let imports = imports(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::a::A; pub struct B;"),
        ("c.rs", "use crate::a::A;"),
    ]);
    let needed = [entry("a.rs", "b.rs")];
    assert!(complaints(&imports, &needed).is_empty() && needless(&imports, &needed).is_empty());
    let with_another = [
        entry("a.rs", "b.rs"),
        entry("c.rs", "a.rs"),
        entry("c.rs", "b.rs"),
    ];
    let told = needless(&imports, &with_another);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("c.rs -> a.rs (it will go)"), "{told:?}");
}
