//! The jars of the test broker: found in the user's cache, or copied there once by Maven.
//!
//! Called by `broker` only. It never starts a broker, and never leaves a half-filled directory: a download is renamed
//! into place when it is complete.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::broker::Error;

/// Kafka's version; the same as in `chaos-tests/pom.xml`.
pub(crate) const KAFKA_VERSION: &str = "4.3.0";
const POM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pom.xml");

/// Returns the directory with Kafka's jars, downloading them at the first call on a machine.
pub(crate) fn directory() -> Result<PathBuf, Error> {
    let cache = cache_root()?;
    let jars = cache.join(format!("kafka-{KAFKA_VERSION}"));
    if jars.is_dir() {
        return Ok(jars);
    }
    fs::create_dir_all(&cache).map_err(|e| unavailable(format!("cannot create {}: {e}", cache.display())))?;
    // Several test binaries start at once: the first downloads, the others wait here and then find the directory.
    let lock_path = cache.join(format!("kafka-{KAFKA_VERSION}.lock"));
    let lock =
        File::create(&lock_path).map_err(|e| unavailable(format!("cannot open {}: {e}", lock_path.display())))?;
    lock.lock().map_err(|e| unavailable(format!("cannot lock {}: {e}", lock_path.display())))?;
    if !jars.is_dir() {
        download(&cache, &jars)?;
    }
    Ok(jars)
}

fn download(cache: &Path, jars: &Path) -> Result<(), Error> {
    let partial = tempfile::Builder::new()
        .prefix("download-")
        .tempdir_in(cache)
        .map_err(|e| unavailable(format!("cannot write to {}: {e}", cache.display())))?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f", POM, "dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", partial.path().display()))
        .output()
        .map_err(|e| unavailable(format!("cannot run mvn: {e}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        let first = said.lines().find(|line| line.contains("ERROR")).unwrap_or("no message").to_owned();
        return Err(unavailable(format!("mvn could not fetch Kafka: {first}")));
    }
    let partial = partial.keep();
    fs::rename(&partial, jars).map_err(|e| unavailable(format!("cannot rename to {}: {e}", jars.display())))
}

fn cache_root() -> Result<PathBuf, Error> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .ok_or_else(|| unavailable("neither XDG_CACHE_HOME nor HOME is set".to_owned()))?;
    Ok(base.join("twinfeed"))
}

fn unavailable(why: String) -> Error {
    Error::NoKafka { why }
}
