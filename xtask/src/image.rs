//! `cargo xtask image`: the runtime image, made without any registry: a base of the host's own
//! Debian suite by debootstrap, and the stripped release binary of the host on it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::prerequisites;
use crate::run::{Built, Profile, run};

#[derive(Args)]
pub(crate) struct ImageArgs {
    /// Name and tag of the image
    #[arg(long, default_value = "tidelog:local")]
    tag: String,
}

/// What the image's metadata says.
const CHANGES: &[&str] = &[
    "ENTRYPOINT [\"/usr/local/bin/tidelog\"]",
    "CMD [\"server\"]",
    "EXPOSE 7171 7172 7173",
    "VOLUME /var/lib/tidelog",
];

pub(crate) fn image(args: &ImageArgs) -> Result<()> {
    if !engine_answers() {
        bail!(
            "no Docker engine answers: install one (on Debian: sudo apt-get install -y docker.io docker-compose), or start it"
        );
    }
    prerequisites::for_build()?;
    Profile::Release.announce();
    let built = Built::product()?;
    make(&built, &args.tag)
}

/// Whether images can be made and run here.
pub(crate) fn engine_answers() -> bool {
    let mut info = Command::new("docker");
    info.arg("info").stdout(Stdio::null()).stderr(Stdio::null());
    info.status().is_ok_and(|status| status.success())
}

/// Makes an image of what was built.
pub(crate) fn make(built: &Built, tag: &str) -> Result<()> {
    prerequisites::for_image()?;
    let rootfs = std::env::temp_dir().join(format!("tidelog-image-{}", std::process::id()));
    let result = assemble(&rootfs, &built.binary("tidelog")?, tag);
    // debootstrap leaves files of many owners: removing them is a matter of tidiness, not of the
    // image.
    let _ = std::fs::remove_dir_all(&rootfs);
    result
}

fn assemble(rootfs: &Path, binary: &Path, tag: &str) -> Result<()> {
    let base = base_archive()?;
    std::fs::create_dir_all(rootfs).with_context(|| format!("creating {}", rootfs.display()))?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(&base).arg("-C").arg(rootfs);
    run(unpack, "unpacking the base")?;

    let installed = rootfs.join("usr/local/bin/tidelog");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&installed).arg(binary);
    run(strip, "stripping the binary")?;
    std::fs::create_dir_all(rootfs.join("var/lib/tidelog"))?;

    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(rootfs)
        .args(["--numeric-owner", "-cf", "-", "."])
        .stdout(Stdio::piped())
        .spawn()
        .context("starting tar")?;
    let mut import = Command::new("docker");
    import.arg("import");
    for change in CHANGES {
        import.args(["--change", change]);
    }
    import
        .args(["-", tag])
        .stdin(tar.stdout.take().context("tar without an output")?);
    run(import, "docker import")?;
    if !tar.wait()?.success() {
        bail!("packing the image failed");
    }
    writeln!(std::io::stderr(), "image {tag} is ready")?;
    Ok(())
}

/// A minimal system of the host's suite, made once and kept.
fn base_archive() -> Result<PathBuf> {
    let suite = os_release("VERSION_CODENAME")?;
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("tidelog");
    std::fs::create_dir_all(&cache)?;
    let archive = cache.join(format!("base-{suite}.tar"));
    if archive.exists() {
        return Ok(archive);
    }

    eprintln!("making a base of {suite} with debootstrap (once)");
    let folder = cache.join(format!("base-{suite}.{}", std::process::id()));
    let mut bootstrap = Command::new("debootstrap");
    bootstrap
        .args(["--variant=minbase", "--include=ca-certificates,libstdc++6"])
        .arg(&suite)
        .arg(&folder);
    if let Some(mirror) = mirror(&suite) {
        bootstrap.arg(mirror);
    }
    bootstrap.stdout(Stdio::null());
    run(bootstrap, "debootstrap (it needs root)")?;
    for waste in [
        "var/cache/apt",
        "var/lib/apt/lists",
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
    ] {
        let _ = std::fs::remove_dir_all(folder.join(waste));
    }

    let part = cache.join(format!("base-{suite}.{}.part", std::process::id()));
    let mut pack = Command::new("tar");
    pack.arg("-C")
        .arg(&folder)
        .args(["--numeric-owner", "-cf"])
        .arg(&part)
        .arg(".");
    run(pack, "packing the base")?;
    std::fs::rename(&part, &archive)?;
    let _ = std::fs::remove_dir_all(&folder);
    Ok(archive)
}

fn os_release(key: &str) -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim_matches('"').to_owned())
        .with_context(|| format!("/etc/os-release names no {key}: this needs a Debian or Ubuntu host"))
}

/// The mirror that the host itself takes this suite from, so that whatever it can reach is asked.
fn mirror(suite: &str) -> Option<String> {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(CODENAME) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        ])
        .output()
        .ok()?;
    mirror_of(suite, &String::from_utf8_lossy(&output.stdout))
}

/// Of lines with codename, component and address, the address of the suite's main component.
fn mirror_of(suite: &str, targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let address = line.strip_prefix(suite)?.strip_prefix(" main ")?;
        Some(address.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_suite_itself_is_a_base() {
        let targets = "nodistro main https://deb.example.org/node_20.x/\nbookworm-updates main http://b/\n\
                       bookworm contrib http://c/\nbookworm main http://d/debian/\n";
        assert_eq!(
            mirror_of("bookworm", targets).as_deref(),
            Some("http://d/debian/")
        );
        assert_eq!(mirror_of("trixie", targets), None);
    }
}
