//! TLS towards a feed: the public authorities and those of a connector's file. Configurations are kept, so that a
//! reconnect resumes its session; the file is read for every dial, so that a rotated one counts from the next connection.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use xxhash_rust::xxh3::xxh3_128;

use super::error::Error;

/// Largest CA file read, in bytes.
const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Configurations kept; each holds up to 256 sessions. A node has a handful of files.
const CONFIGS_MAX: usize = 64;

/// The configurations of a node, by CA file.
#[derive(Clone, Default)]
pub struct TlsConfigs(Arc<Mutex<HashMap<Option<String>, Kept>>>);

struct Kept {
    /// Of the file's content. Who can make two files collide can write either of them.
    fingerprint: u128,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for TlsConfigs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConfigs")
    }
}

impl TlsConfigs {
    /// The configuration that trusts the public authorities and those of `ca_file`.
    pub(super) async fn trusting(&self, ca_file: Option<&str>) -> Result<Arc<ClientConfig>, Error> {
        let unusable = |path: &str, why: String| Error::Unusable(format!("twinfeed.tls.ca.file {path}: {why}"));
        let pem = match ca_file {
            None => Vec::new(),
            Some(path) => read(Path::new(path)).await.map_err(|why| unusable(path, why))?,
        };
        let (key, fingerprint) = (ca_file.map(str::to_owned), xxh3_128(&pem));
        let kept =
            self.0.lock().expect("nothing panics while it holds the configurations").get(&key).and_then(|kept| {
                let is_same = kept.fingerprint == fingerprint;
                is_same.then(|| Arc::clone(&kept.config))
            });
        if let Some(config) = kept {
            return Ok(config);
        }
        let built = match ca_file {
            None => config(Vec::new()),
            Some(_) => certificates(&pem).and_then(config),
        };
        let config = built.map_err(|why| unusable(ca_file.unwrap_or_default(), why))?;
        let mut configs = self.0.lock().expect("nothing panics while it holds the configurations");
        if configs.len() >= CONFIGS_MAX && !configs.contains_key(&key) {
            configs.clear();
        }
        configs.insert(key, Kept { fingerprint, config: Arc::clone(&config) });
        Ok(config)
    }
}

/// The TLS handshake with `host`, a name or an address.
pub(super) async fn handshake(
    host: &str,
    config: Arc<ClientConfig>,
    tcp: TcpStream,
) -> Result<TlsStream<TcpStream>, Error> {
    let name = match host.parse::<IpAddr>() {
        Ok(address) => ServerName::from(address),
        Err(_) => {
            ServerName::try_from(host.to_owned()).map_err(|_| Error::Unusable(format!("{host} is not a host name")))?
        }
    };
    let connected = TlsConnector::from(config).connect(name, tcp).await;
    connected.map_err(|source| Error::Tls { host: host.to_owned(), source })
}

fn config(further: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in further {
        roots.add(certificate).map_err(|error| format!("holds an unusable certificate: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider supports the default versions");
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let kind = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?;
    if !kind.is_file() || kind.len() > CA_FILE_BYTES_MAX {
        return Err(format!("must be a regular file of at most {CA_FILE_BYTES_MAX} bytes"));
    }
    let mut pem = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(|error| error.to_string())?;
    file.take(CA_FILE_BYTES_MAX).read_to_end(&mut pem).await.map_err(|error| error.to_string())?;
    Ok(pem)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    // The parser's error quotes the file's content; a path to something else than certificates must not reveal it.
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("holds no PEM certificate".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(name: &str) -> String {
        rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate").cert.pem()
    }

    #[tokio::test]
    async fn a_configuration_is_kept_until_its_file_changes() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, pem("one")).expect("written");
        let path = file.to_str();
        let configs = TlsConfigs::default();
        let first = configs.trusting(path).await.expect("usable");
        assert!(Arc::ptr_eq(&first, &configs.trusting(path).await.expect("usable")), "sessions are resumed");
        assert!(!Arc::ptr_eq(&first, &configs.trusting(None).await.expect("usable")), "not with other authorities");
        std::fs::write(&file, pem("two")).expect("written");
        let second = configs.trusting(path).await.expect("usable");
        assert!(!Arc::ptr_eq(&first, &second), "the rotated file counts");
        std::fs::write(&file, "nothing").expect("written");
        assert!(configs.trusting(path).await.expect_err("refused").reason().contains("holds no PEM certificate"));
    }
}
