//! What a build needs beside Rust: a C++ compiler for RocksDB, and libclang for its bindings.
//! Installed where that is possible without asking, else named with the one line to run.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Something the build or the tests need, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    packages: &'static [&'static str],
    present: fn() -> bool,
}

const BUILD: &[Need] = &[
    Need {
        what: "a C++ compiler",
        packages: &["g++"],
        present: || runs("c++") || runs("g++") || runs("clang++"),
    },
    Need {
        what: "libclang",
        packages: &["clang", "libclang-dev"],
        present: has_libclang,
    },
];

const PYTHON: &[Need] = &[Need {
    what: "Python 3 with venv",
    packages: &["python3", "python3-venv"],
    present: || {
        Command::new("python3")
            .args(["-c", "import ensurepip, venv"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    },
}];

const IMAGE: &[Need] = &[Need {
    what: "debootstrap",
    packages: &["debootstrap"],
    present: || runs("debootstrap"),
}];

/// Makes sure that the workspace can be built.
pub(crate) fn for_build() -> Result<()> {
    ensure(BUILD)
}

/// Makes sure that the Python client's test can run.
pub(crate) fn for_python() -> Result<()> {
    ensure(PYTHON)
}

/// Makes sure that a base image can be made.
pub(crate) fn for_image() -> Result<()> {
    ensure(IMAGE)
}

fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = missing
        .iter()
        .map(|need| need.what)
        .collect::<Vec<_>>()
        .join(" and ");
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let by_hand = format!(
        "sudo apt-get update && sudo apt-get install -y {}",
        packages.join(" ")
    );

    if !runs("apt-get") {
        bail!("{what} is missing: install it with this system's package manager (on Debian: {by_hand})");
    }
    let Some(prefix) = privilege() else {
        bail!("{what} is missing; run: {by_hand}");
    };
    eprintln!(
        "{what} is missing: installing {} with apt-get",
        packages.join(", ")
    );
    apt_get(prefix, &["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(&packages);
    apt_get(prefix, &install)?;

    if let Some(still) = missing.iter().find(|need| !(need.present)()) {
        bail!(
            "{} is still missing after installing {}; run: {by_hand}",
            still.what,
            packages.join(", ")
        );
    }
    Ok(())
}

/// What to put before `apt-get`: nothing for root, `sudo -n` where it asks for no password.
fn privilege() -> Option<&'static [&'static str]> {
    let uid = Command::new("id").arg("-u").output().ok()?;
    if uid.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stderr(Stdio::null())
        .status();
    sudo.is_ok_and(|status| status.success())
        .then_some(&["sudo", "-n"])
}

fn apt_get(prefix: &[&str], args: &[&str]) -> Result<()> {
    let mut words = prefix.to_vec();
    words.push("apt-get");
    words.extend(args);
    let status = Command::new(words[0])
        .args(&words[1..])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("running {}", words.join(" ")))?;
    if !status.success() {
        bail!("{} failed ({status})", words.join(" "));
    }
    Ok(())
}

/// Whether a program of that name can be started.
pub(crate) fn runs(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Whether bindgen will find libclang: where its own search looks.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let mut folders: Vec<std::path::PathBuf> = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ]
    .iter()
    .map(Into::into)
    .collect();
    if let Ok(entries) = std::fs::read_dir("/usr/lib") {
        let llvm = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm"));
        folders.extend(llvm.map(|entry| entry.path().join("lib")));
    }
    folders.iter().any(|folder| holds_libclang(folder))
}

fn holds_libclang(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("libclang.so") || name.starts_with("libclang-")
        })
    })
}
