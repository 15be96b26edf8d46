//! Resolves `${env:NAME}` and `${file:/path:key}` at the node, at the moment of a dial, so that a rotated secret is used
//! by the next connection and none is ever stored. Whoever may create a connector writes these references: only
//! variables with a prefix and regular files below one directory can be read, and nothing resolved is resolved again.

use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;

use super::{error::Error, sent::Sent};
use crate::model::{
    connector::Config,
    secret::{Secret, SecretPart},
};

/// Largest file read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What references may name on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSources {
    /// Only environment variables beginning with this. Default `TWINFEED_SECRET_`.
    pub env_prefix: String,
    /// Only files below this directory, after symbolic links. Default `/etc/twinfeed/secrets`.
    pub file_root: PathBuf,
}

impl Default for SecretSources {
    fn default() -> Self {
        Self { env_prefix: "TWINFEED_SECRET_".into(), file_root: "/etc/twinfeed/secrets".into() }
    }
}

impl SecretSources {
    /// The text with every reference replaced by what it names, which is noted in `sent`.
    pub(super) async fn resolve(&self, secret: &Secret, sent: &mut Sent) -> Result<String, Error> {
        let mut text = String::new();
        for part in secret.parts() {
            let resolved = match part {
                SecretPart::Literal(literal) => {
                    text.push_str(literal);
                    continue;
                }
                SecretPart::Env(name) => self.variable(name)?,
                SecretPart::File { path, key } => self.file(path, key).await?,
            };
            sent.note(&resolved);
            text.push_str(&resolved);
        }
        Ok(text)
    }

    /// The values with every reference replaced by what it names; the error names the key, and no value.
    ///
    /// # Errors
    /// When something that is named does not exist or may not be read.
    pub async fn resolve_all(&self, values: &Config) -> Result<Config, String> {
        let mut resolved = Config::new();
        for (key, value) in values {
            let value = self.resolve(&Secret::new(value.as_str()), &mut Sent::default()).await;
            let why = |error| match error {
                Error::Unusable(why) => format!("{key}: {why}"),
                other => format!("{key}: {}", other.reason()),
            };
            resolved.insert(key.clone(), value.map_err(why)?);
        }
        Ok(resolved)
    }

    fn variable(&self, name: &str) -> Result<String, Error> {
        if !name.starts_with(&self.env_prefix) {
            let prefix = &self.env_prefix;
            return Err(unusable(format!("${{env:{name}}} is not allowed; only variables named {prefix}* are")));
        }
        std::env::var(name).map_err(|_| unusable(format!("${{env:{name}}} is not set on this node")))
    }

    async fn file(&self, path: &str, key: Option<&str>) -> Result<String, Error> {
        let refused = |why: &str| unusable(format!("${{file:{path}}} {why}"));
        let root = tokio::fs::canonicalize(&self.file_root)
            .await
            .map_err(|_| refused(&format!("needs the directory {} on this node", self.file_root.display())))?;
        let real =
            tokio::fs::canonicalize(Path::new(path)).await.map_err(|_| refused("does not exist on this node"))?;
        if !real.starts_with(&root) {
            return Err(refused(&format!("is not below {}", self.file_root.display())));
        }
        // Looked at before it is opened: opening a FIFO would block, a device may never end.
        let kind = tokio::fs::metadata(&real).await.map_err(|_| refused("cannot be read"))?;
        if !kind.is_file() {
            return Err(refused("is not a regular file"));
        }
        let file = tokio::fs::File::open(&real).await.map_err(|_| refused("cannot be read"))?;
        let mut text = String::new();
        let mut limited = file.take(FILE_BYTES_MAX + 1);
        let read = limited.read_to_string(&mut text).await.map_err(|_| refused("is not utf-8 text"))?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(refused(&format!("is larger than {FILE_BYTES_MAX} bytes")));
        }
        match key {
            None => Ok(text.trim_end_matches(['\n', '\r']).to_owned()),
            Some(key) => property(&text, key).ok_or_else(|| refused(&format!("has no line {key}=…"))),
        }
    }
}

fn unusable(why: String) -> Error {
    Error::Unusable(why)
}

fn property(text: &str, key: &str) -> Option<String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.into_iter().find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolved(sources: &SecretSources, text: &str) -> Result<String, String> {
        sources.resolve(&Secret::new(text), &mut Sent::default()).await.map_err(|error| error.reason())
    }

    #[tokio::test]
    async fn reads_files_below_the_root_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        std::fs::create_dir(&root).expect("created");
        std::fs::write(root.join("token"), "s3\n").expect("written");
        std::fs::write(root.join("pairs"), "a=1\n b = two ${file:/etc/hostname}\n").expect("written");
        std::fs::write(dir.path().join("outside"), "canary").expect("written");
        std::os::unix::fs::symlink(dir.path().join("outside"), root.join("link")).expect("linked");
        std::fs::write(root.join("large"), vec![b'x'; 70_000]).expect("written");
        let fifo = root.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
        let sources = SecretSources { file_root: root.clone(), ..SecretSources::default() };
        let shown = root.display();

        assert_eq!(resolved(&sources, &format!("Bearer ${{file:{shown}/token}}")).await.as_deref(), Ok("Bearer s3"));
        // Nothing resolved is resolved again.
        let pairs = format!("${{file:{shown}/pairs:b}}");
        assert_eq!(resolved(&sources, &pairs).await.as_deref(), Ok("two ${file:/etc/hostname}"));
        for (bad, why) in [
            ("/link", "is not below"),
            ("/../outside", "is not below"),
            ("/missing", "does not exist"),
            ("/large", "is larger than"),
            ("/fifo", "is not a regular file"),
            ("", "is not a regular file"),
            ("/pairs:c", "has no line"),
        ] {
            let refusal = resolved(&sources, &format!("${{file:{shown}{bad}}}")).await.expect_err(bad);
            assert!(refusal.contains(why), "{bad}: {refusal}");
            assert!(!refusal.contains("canary"));
        }
        assert!(resolved(&sources, "${file:/proc/self/environ}").await.is_err());
    }

    #[tokio::test]
    async fn properties_are_resolved_as_a_whole() {
        let sources = SecretSources { env_prefix: "CARGO_PKG_N".into(), ..SecretSources::default() };
        let values = |value: &str| Config::from([("client.id".to_owned(), value.to_owned())]);
        let resolved = sources.resolve_all(&values("a-${env:CARGO_PKG_NAME}")).await;
        assert_eq!(resolved, Ok(values("a-twinfeed-node")));
        let refused = sources.resolve_all(&values("${env:CARGO_PKG_NONE}")).await.expect_err("unset");
        assert!(refused.starts_with("client.id: ") && refused.contains("is not set"), "{refused}");
    }

    #[tokio::test]
    async fn only_variables_with_the_prefix_can_be_named() {
        let sources = SecretSources { env_prefix: "CARGO_PKG_N".into(), ..SecretSources::default() };
        assert_eq!(resolved(&sources, "a-${env:CARGO_PKG_NAME}").await.as_deref(), Ok("a-twinfeed-node"));
        assert!(resolved(&sources, "${env:PATH}").await.expect_err("refused").contains("not allowed"));
        assert!(resolved(&sources, "${env:CARGO_PKG_NONE}").await.expect_err("unset").contains("is not set"));
    }
}
