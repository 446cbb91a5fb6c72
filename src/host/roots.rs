//! The certificates that this machine trusts, loaded once, when they are first needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::{Host, files};
use crate::clean;
use crate::facts::Unread;
use crate::redact::Clean;

/// Bytes of a file with certificates to trust: a whole system's are a quarter of that.
const MAX_FILE_BYTES: usize = 4 << 20;

/// Where distributions keep all trusted certificates in one file. The folder beside it holds the same ones again, a file
/// each, which takes five times as long to read; it is read where there is no such file.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The trusted roots. That there are none is said, not fatal: plain HTTP and local files need none.
#[derive(Debug)]
pub struct Roots {
    /// The roots that could be used.
    pub store: Arc<RootCertStore>,
    /// What went wrong with others, at most 8 sentences.
    pub problems: Vec<Clean>,
}

/// Where the loaded roots are kept.
pub(super) type Cache = OnceCell<Arc<Roots>>;

impl Host {
    /// The machine's trusted roots, from `$SSL_CERT_FILE` and `$SSL_CERT_DIR` where they are set, else from where the
    /// system keeps them. Loaded once for this host. Codes: those of a lane.
    pub async fn roots(&self, deadline: Instant) -> Result<Arc<Roots>, Unread> {
        let file = self.var("SSL_CERT_FILE").map(PathBuf::from);
        let dir = self.var("SSL_CERT_DIR").map(PathBuf::from);
        let load = || self.lane("trusted roots", deadline, move || Arc::new(load(file.as_deref(), dir.as_deref())));
        self.roots.get_or_try_init(load).await.cloned()
    }

    /// The certificates of a PEM file, at least one. Code: `roots_unreadable` (blind), and those of a lane.
    pub(super) async fn certificates(
        &self,
        path: &Path,
        deadline: Instant,
    ) -> Result<Vec<CertificateDer<'static>>, Unread> {
        let (about, path) = (path.to_string_lossy().into_owned(), path.to_owned());
        self.lane(&about, deadline, move || certificates_of(&path)).await?
    }
}

fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unread> {
    let unreadable = |why: &str| Unread::blind("roots_unreadable", clean!("{} {why}", files::shown(path)));
    let (bytes, cut) = files::read(path, MAX_FILE_BYTES)
        .map_err(|why| Unread::blind("roots_unreadable", clean!("the trusted certificates: {}", why.said)))?;
    if cut {
        return Err(unreadable("is longer than 4 MiB"));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unreadable("holds no PEM certificate")),
        Err(_) => Err(unreadable("is not PEM")),
    }
}

fn load(file: Option<&Path>, dir: Option<&Path>) -> Roots {
    let loaded = if file.is_none() && dir.is_none() {
        let bundle = BUNDLES.iter().map(Path::new).find(|bundle| bundle.is_file());
        let bundled = bundle.map(|bundle| rustls_native_certs::load_certs_from_paths(Some(bundle), None));
        bundled.filter(|read| !read.certs.is_empty()).unwrap_or_else(rustls_native_certs::load_native_certs)
    } else {
        rustls_native_certs::load_certs_from_paths(file, dir)
    };
    let mut store = RootCertStore::empty();
    let (_used, refused) = store.add_parsable_certificates(loaded.certs);
    let mut problems: Vec<Clean> =
        loaded.errors.iter().take(7).map(|error| Clean::line(&error.to_string(), 300)).collect();
    if refused > 0 {
        problems.push(clean!("{refused} trusted certificates can't be parsed"));
    }
    if store.is_empty() {
        problems.insert(
            0,
            Clean::new("no trusted certificates were found (install `ca-certificates` or set $SSL_CERT_FILE)"),
        );
        problems.truncate(8);
    }
    Roots { store: Arc::new(store), problems }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files;

    #[test]
    fn roots_come_from_where_they_are_said_to_be_and_their_absence_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["example".to_owned()]).unwrap();
        let pem = dir.path().join("ca.pem");
        files::replace(&pem, made.cert.pem().as_bytes(), 0o600).unwrap();
        let found = load(Some(&pem), None);
        assert_eq!((found.store.len(), found.problems.len()), (1, 0));

        let none = load(Some(&dir.path().join("none.pem")), None);
        assert!(none.store.is_empty());
        assert!(none.problems[0].as_str().starts_with("no trusted certificates were found"));
        assert!(none.problems.len() >= 2, "{:?}", none.problems);
    }
}
