//! Certificates for development, written into a folder.
//!
//! Must not know: how certificates are made.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::OperatorError;
use crate::net::tls::development::{Authority, Made};
use crate::net::tls::server_name;

/// What to make.
pub struct Order<'a> {
    /// The names that the certificate is for.
    pub names: Vec<String>,
    /// Where to write.
    pub folder: &'a Path,
    /// How long it is good, in days.
    pub days: u64,
    /// The time.
    pub unix_ms: u64,
}

/// The longest life: beyond it, dates need another notation.
const DAYS_MAX: u64 = 36_500;

/// Makes a certificate, and an authority if the folder has none; answers what to tell.
///
/// # Errors
/// A name can't be in a certificate, a file is there already or can't be written.
pub fn make(order: &Order<'_>) -> Result<String, OperatorError> {
    if let Some(name) = order.names.iter().find(|name| !is_name(name)) {
        return Err(OperatorError::usage(format!("\"{name}\" can't be in a certificate"))
            .hint("write host names and IP addresses: socketley cert localhost 127.0.0.1"));
    }
    if order.days == 0 || order.days > DAYS_MAX {
        return Err(OperatorError::usage(format!("--days: expected 1 to {DAYS_MAX}")));
    }
    let first = order.names.first().map_or("localhost", String::as_str);
    let stem = first.replace('*', "wildcard").replace(':', "_");
    let file = |name: String| order.folder.join(name);
    let (certificate, key) = (file(format!("{stem}.pem")), file(format!("{stem}.key")));
    for path in [&certificate, &key] {
        if path.exists() {
            return Err(OperatorError::failed(format!("{} is there already", path.display()))
                .hint("remove it first, or write elsewhere: --folder FOLDER"));
        }
    }
    std::fs::create_dir_all(order.folder).map_err(|error| unwritable(order.folder, &error))?;
    let (authority, trusted) = authority(order)?;
    let made = authority.certify(&order.names, order.days).map_err(OperatorError::failed)?;
    write(&certificate, &made.certificate, 0o644)?;
    write(&key, &made.key, 0o600)?;
    let (certificate, key, trusted) = (certificate.display(), key.display(), trusted.display());
    Ok(format!(
        "{certificate}\n{key}\n{trusted}\n\
         now: socketley create server NAME -p 9443 --tls --cert {certificate} --key {key} -s\n\
         and: openssl s_client -connect 127.0.0.1:9443 -CAfile {trusted}\n"
    ))
}

fn is_name(name: &str) -> bool {
    server_name(name.strip_prefix("*.").unwrap_or(name)).is_some()
}

/// The folder's authority, made if it has none, and the file with its certificate.
fn authority(order: &Order<'_>) -> Result<(Authority, PathBuf), OperatorError> {
    let (trusted, key) = (order.folder.join("ca.pem"), order.folder.join("ca.key"));
    let present = match std::fs::read_to_string(&key) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(unwritable(&key, &error)),
    };
    let authority = Authority::new(present.as_deref(), order.unix_ms).map_err(|error| {
        OperatorError::failed(format!("{} is no key of an authority: {error}", key.display()))
    })?;
    if present.is_none() {
        let Made { certificate, key: secret } = authority.own().map_err(OperatorError::failed)?;
        write(&trusted, &certificate, 0o644)?;
        write(&key, &secret, 0o600)?;
    }
    Ok((authority, trusted))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), OperatorError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> OperatorError {
    OperatorError::failed(format!("can't write {}: {error}", path.display()))
}
