//! TLS as a user configures it, and its files made into what connections share.
//!
//! Versions 1.2 and 1.3 with rustls's defaults; sessions are resumed by tickets whose keys rotate. Verification of a
//! server can only be turned off by [`Settings::insecure`]. Must not know: runtimes, when files are read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};

use super::certificates::{
    Certificates, authorities, certified, chain, private_key, system_authorities,
};
use super::{Tls, server_name};
use crate::error::OperatorError;

/// Whether the accepted or the client's own connections speak TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Plain bytes.
    #[default]
    Off,
    /// TLS only.
    On,
    /// Whichever the client speaks first.
    Optional,
}

/// Files of one side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Certificate chains in PEM, own certificate first.
    pub certificates: Vec<PathBuf>,
    /// Their keys, in the same order; without any, each key is in its certificate's file.
    pub keys: Vec<PathBuf>,
    /// The authorities that the other side's certificate must come from.
    pub authorities: Option<PathBuf>,
}

/// TLS of one runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// server, proxy, cache: of what is accepted; client: of what is dialled.
    pub mode: Mode,
    /// For that.
    pub files: Files,
    /// Application protocols (ALPN), best first.
    pub protocols: Vec<String>,
    /// proxy: backends speak TLS.
    pub to_backends: bool,
    /// proxy: for its backends.
    pub backend_files: Files,
    /// Dialled servers must have this name instead of the one that was dialled.
    pub server_name: Option<String>,
    /// Dialled servers may be anyone: only for tests.
    pub insecure: bool,
}

impl Settings {
    /// All files that are read.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.files, &self.backend_files].into_iter().flat_map(|files| {
            files.certificates.iter().chain(&files.keys).chain(&files.authorities)
        })
    }

    /// Makes relative paths absolute: they are meant from `folder`.
    pub fn anchor(&mut self, folder: &Path) {
        for files in [&mut self.files, &mut self.backend_files] {
            let paths = files.certificates.iter_mut().chain(&mut files.keys);
            for path in paths.chain(&mut files.authorities) {
                *path = folder.join(&path);
            }
        }
    }

    /// Reads the files. `dials` says that [`Settings::mode`] is about dialled connections (a client's). Tickets of
    /// `previous` stay good if the same clients may come as before.
    ///
    /// # Errors
    /// A file is missing or isn't what it should be, a key doesn't fit, or a setting lacks another.
    pub fn load(&self, dials: bool, previous: Option<&Tls>) -> Result<Tls, OperatorError> {
        let mut tls = Tls {
            optional: self.mode == Mode::Optional,
            server_name: self.server_name.as_deref().map(Into::into),
            ..Tls::default()
        };
        if let Some(name) = self.server_name.as_deref().filter(|name| server_name(name).is_none()) {
            return Err(OperatorError::usage(format!("\"{name}\" can't be a server's name")));
        }
        let speaks = self.mode != Mode::Off;
        match (dials, speaks) {
            (true, true) => tls.dial = Some(Arc::new(self.client(&self.files)?)),
            (false, true) => tls.accept = Some(Arc::new(self.server(previous)?)),
            (_, false) if self.files != Files::default() => {
                return Err(OperatorError::usage("cert, key and ca are for TLS, which is off")
                    .hint("turn it on with --tls (in a file: tls = true)"));
            }
            (_, false) => {}
        }
        if self.to_backends {
            tls.dial = Some(Arc::new(self.client(&self.backend_files)?));
        } else if self.backend_files != Files::default() {
            return Err(OperatorError::usage(
                "client_cert, client_key and client_ca are for TLS to backends, which is off",
            )
            .hint("turn it on with --backend-tls (in a file: backend_tls = true)"));
        }
        Ok(tls)
    }

    fn server(&self, previous: Option<&Tls>) -> Result<ServerConfig, OperatorError> {
        let Files { certificates, keys, authorities: trusted } = &self.files;
        if certificates.is_empty() {
            return Err(OperatorError::usage("tls needs a certificate").hint(
                "name one with --cert FILE --key FILE; `socketley cert` makes one for development",
            ));
        }
        if !keys.is_empty() && keys.len() != certificates.len() {
            let (count, of) = (keys.len(), certificates.len());
            return Err(OperatorError::usage(format!(
                "there are {count} keys for {of} certificates"
            ))
            .hint("give each certificate its key, in the same order"));
        }
        let provider = provider();
        let mut loaded = Vec::new();
        for (at, certificate) in certificates.iter().enumerate() {
            let key = keys.get(at).unwrap_or(certificate);
            loaded.push(Arc::new(certified(certificate, key, &provider)?));
        }
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match trusted {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots, provider).build().map_err(
                        |error| OperatorError::failed(format!("{}: {error}", path.display())),
                    )?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(Certificates(loaded)));
        config.alpn_protocols =
            self.protocols.iter().map(|name| name.clone().into_bytes()).collect();
        config.ticketer = self.ticketer(previous)?;
        Ok(config)
    }

    /// A ticket stands for a handshake that was made: where clients are verified, a new reading of the authorities
    /// makes them all prove themselves again.
    fn ticketer(&self, previous: Option<&Tls>) -> Result<Arc<dyn ProducesTickets>, OperatorError> {
        match previous.and_then(|tls| tls.accept.as_ref()) {
            Some(config) if self.files.authorities.is_none() => Ok(Arc::clone(&config.ticketer)),
            _ => aws_lc_rs::Ticketer::new().map_err(unusable),
        }
    }

    fn client(&self, files: &Files) -> Result<ClientConfig, OperatorError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        } else {
            let roots = match &files.authorities {
                Some(path) => authorities(path)?,
                None => system_authorities()?,
            };
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build().map_err(|error| {
                OperatorError::failed(format!("no server can be verified: {error}"))
            })?;
            builder.with_webpki_verifier(verifier)
        };
        let mut config = match files.certificates.as_slice() {
            [] if files.keys.is_empty() => builder.with_no_client_auth(),
            [certificate] if files.keys.len() <= 1 => {
                let key = files.keys.first().unwrap_or(certificate);
                certified(certificate, key, &super::settings::provider())?;
                builder
                    .with_client_auth_cert(chain(certificate)?, private_key(key)?)
                    .map_err(unusable)?
            }
            _ => {
                return Err(OperatorError::usage("a client shows one certificate, with its key"));
            }
        };
        config.alpn_protocols =
            self.protocols.iter().map(|name| name.clone().into_bytes()).collect();
        Ok(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn unusable(error: rustls::Error) -> OperatorError {
    OperatorError::failed(format!("TLS can't be set up: {error}"))
}

/// Takes every server for the right one: what `insecure` asks for. Signatures are still checked, so that a broken peer
/// isn't taken for a working one.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
