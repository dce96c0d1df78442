//! Python with what the client programs need, installed once for every test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The folder of the client programs.
pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python")
}

/// A virtual environment with `requirements.txt` installed; its interpreter is `bin/python`. Made
/// in `scratch`, which tests name by `CARGO_TARGET_TMPDIR`, and kept there.
pub fn environment(scratch: &Path) -> Result<PathBuf> {
    let folder = scratch.join("python-client");
    let requirements = programs().join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)?;
    let installed = folder.join("installed.txt");
    // Tests run side by side, each in a process of its own: one makes it.
    let one_at_a_time = std::fs::File::create(folder.with_extension("lock"))?;
    one_at_a_time.lock()?;
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(folder);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder))?;
    run(Command::new(folder.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "-r"])
        .arg(&requirements))?;
    std::fs::write(installed, wanted)?;
    Ok(folder)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
