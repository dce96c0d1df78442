//! Every command of README and docs, run in the order in which it stands there.
//!
//! The documents' own ports and folders are used: brokers at 127.0.0.1:7171 and so on, files below
//! an empty folder that stands for the repository. What takes minutes is not run here but named in
//! [`ELSEWHERE`], with who runs it.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tidelog_tests::cluster::binary;
use tidelog_tests::documented::Document;
use tidelog_tests::{ports, python};

/// In the order in which a newcomer reads them.
const DOCUMENTS: [&str; 3] = ["README.md", "docs/consumer-groups.md", "docs/operations.md"];

/// Commands that are not run here, and what shows that they work.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo xtask demo", ".ci/run"),
    ("cargo xtask test", ".ci/run, which runs this test by it"),
    (
        "cargo xtask image",
        "tests/compose, of which the image is made in the same way",
    ),
    (
        "cargo build --release",
        "the program under test is built before this test, in the dev profile",
    ),
    (
        "docker-compose -f deploy/docker-compose.yml up -d",
        "tests/compose",
    ),
    (
        "docker-compose -f deploy/docker-compose.yml down --volumes",
        "tests/compose",
    ),
];

/// How long the commands of one document may take.
const PATIENCE_S: &str = "300";
/// Where the documents' brokers listen.
const PORTS: [u16; 9] = [7171, 7172, 7173, 7271, 7272, 7273, 7371, 7372, 7373];

#[test]
fn the_documents_commands_work_in_their_order() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let stage = Stage::set(&root)?;
    let _held = ports::documented()?;
    for name in DOCUMENTS {
        free_ports()?;
        let script = Document::read(&root, name)?.script();
        stage.run(name, &script)?;
    }
    Ok(())
}

/// The folder in which the commands run.
struct Stage {
    folder: tempfile::TempDir,
    path: String,
}

impl Stage {
    fn set(root: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // The repository without its build folder: `target/release` must not hide the program under
        // test.
        for entry in ["crates", "deploy", "docs", "proto", "tests"] {
            symlink(root.join(entry), folder.path().join(entry))?;
        }
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin)?;
        symlink(binary()?, bin.join("tidelog"))?;
        let python = python::environment(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
        let mut elsewhere = String::new();
        for (command, _) in ELSEWHERE {
            let _ = writeln!(elsewhere, "'{command}') exit 0 ;;");
        }
        let unknown = "*) echo \"$0 $*: no test knows this command\" >&2; exit 1 ;;\nesac\n";
        let examples = examples()?;
        program(
            &bin.join("cargo"),
            &format!(
                "if [ \"$1 $2 $3 $4 $5\" = 'run --release -p tidelog-client --example' ]; then\n\
                 name=$6; shift 7; exec {examples}/$name \"$@\"\nfi\n\
                 case \"cargo $*\" in\n{elsewhere}{unknown}",
                examples = examples.display()
            ),
        )?;
        program(
            &bin.join("docker-compose"),
            &format!("case \"docker-compose $*\" in\n{elsewhere}{unknown}"),
        )?;
        let stand_in = python::programs().join("grpcurl.py");
        program(
            &bin.join("grpcurl"),
            &format!(
                "exec {}/bin/python {} \"$@\"\n",
                python.display(),
                stand_in.display()
            ),
        )?;
        // An environment that is made already: registries of packages are not asked twice.
        program(
            &bin.join("python3"),
            &format!(
                "if [ \"$1 $2\" = '-m venv' ]; then mkdir \"$3\" && exec ln -s {venv}/bin {venv}/lib {venv}/pyvenv.cfg \"$3\"; fi\n\
                 exec {venv}/bin/python \"$@\"\n",
                venv = python.display()
            ),
        )?;
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", bin.display());
        Ok(Self { folder, path })
    }

    fn run(&self, name: &str, script: &str) -> Result<()> {
        let file = self.folder.path().join("script.sh");
        // Brokers that a document starts, it stops: the last wait ends when they have.
        std::fs::write(&file, format!("{script}wait\n"))?;
        let output = Command::new("timeout")
            .args(["--kill-after", "10", PATIENCE_S, "bash"])
            .arg(&file)
            .current_dir(self.folder.path())
            .env("PATH", &self.path)
            .env_remove("TIDELOG_BOOTSTRAP")
            .output()
            .context("running a document's commands")?;
        if output.status.success() {
            return Ok(());
        }
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        bail!("{name}: {}\n{}\n{}", output.status, tail(&out), tail(&err))
    }
}

/// Examples are built beside the tests.
fn examples() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("no build folder")?;
    Ok(folder.join("examples"))
}

fn program(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, format!("#!/bin/sh\n{text}"))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))?;
    Ok(())
}

fn free_ports() -> Result<()> {
    for port in PORTS {
        let free = TcpListener::bind(("127.0.0.1", port)).is_ok();
        ensure!(
            free,
            "port {port} is taken: stop the broker there, since the documents start one"
        );
    }
    Ok(())
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
