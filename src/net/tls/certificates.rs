//! Certificates and keys from PEM files, each problem named with its file, and the choice among them by name.
//!
//! Must not know: what they are for.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::OperatorError;

/// The certificates of one server, the first of which is for clients that name none of them.
#[derive(Debug)]
pub(super) struct Certificates(pub Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let usable =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = name
            .as_ref()
            .and_then(|name| self.0.iter().filter(usable).find(|key| is_for(key, name)));
        named.or_else(|| self.0.iter().find(usable)).or(self.0.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.cert.first().and_then(|der| ParsedCertificate::try_from(der).ok());
    parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

/// A chain and its key, which must belong together.
pub(super) fn certified(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, OperatorError> {
    let chain = chain(certificate)?;
    let private = private_key(key)?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => OperatorError::failed(format!(
            "the key in {} doesn't belong to the certificate in {}",
            key.display(),
            certificate.display()
        ))
        .hint("give each certificate its own key, in the same order"),
        other => {
            OperatorError::failed(format!("the key in {} can't be used: {other}", key.display()))
        }
    })
}

/// All certificates of a file, the server's own first.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, OperatorError> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, &error))?;
    let chain: Vec<_> =
        found.collect::<Result<_, _>>().map_err(|error| unreadable(path, &error))?;
    if chain.is_empty() {
        return Err(OperatorError::failed(format!("{} holds no certificate", path.display()))
            .hint("a certificate is PEM text: -----BEGIN CERTIFICATE----- ..."));
    }
    for certificate in &chain {
        ParsedCertificate::try_from(certificate).map_err(|error| {
            OperatorError::failed(format!(
                "a certificate in {} can't be read: {error}",
                path.display()
            ))
        })?;
    }
    Ok(chain)
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, OperatorError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            OperatorError::failed(format!("{} holds no private key", path.display()))
                .hint("a key is PEM text without a passphrase: -----BEGIN PRIVATE KEY----- ...")
        }
        other => unreadable(path, &other),
    })
}

/// The authorities of a file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, OperatorError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate).map_err(|error| {
            OperatorError::failed(format!(
                "a certificate in {} is no authority's: {error}",
                path.display()
            ))
        })?;
    }
    Ok(roots)
}

/// The authorities that this machine trusts.
pub(super) fn system_authorities() -> Result<RootCertStore, OperatorError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(OperatorError::failed(format!(
            "this machine trusts no certificate authority{why}"
        ))
        .hint("install the package ca-certificates, or name an authority's certificate with ca"));
    }
    Ok(roots)
}

fn unreadable(path: &Path, error: &pem::Error) -> OperatorError {
    let why = match error {
        pem::Error::Io(error) => error.to_string(),
        other => format!("it is no PEM text ({other:?})"),
    };
    OperatorError::failed(format!("can't read {}: {why}", path.display()))
}
