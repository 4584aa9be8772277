//! Certificates for development: an authority of one's own, and certificates from it for servers and clients.
//!
//! The authority is its key: with the same key, certificates made later come from the same authority.
//! Must not know: files, who asks.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

const AUTHORITY: &str = "Socketley development authority";
/// Of the authority's own certificate.
const AUTHORITY_DAYS: u64 = 3650;
/// Clocks differ, and some machines' are a little late.
const EARLIER_DAYS: u64 = 1;

/// A private key and the certificate for it, both in PEM.
#[derive(Clone, Debug)]
pub struct Made {
    /// The certificate.
    pub certificate: String,
    /// The key; as secret as what it protects.
    pub key: String,
}

/// An authority for development.
pub struct Authority {
    key: KeyPair,
    unix_ms: u64,
}

impl Authority {
    /// A new one, or the one of a key made before.
    ///
    /// # Errors
    /// The key isn't one.
    pub fn new(key: Option<&str>, unix_ms: u64) -> Result<Authority, String> {
        let key = match key {
            Some(pem) => KeyPair::from_pem(pem),
            None => KeyPair::generate(),
        };
        Ok(Authority { key: key.map_err(|error| error.to_string())?, unix_ms })
    }

    /// Its own certificate, for those who shall trust it, and its key.
    ///
    /// # Errors
    /// The key can't sign.
    pub fn own(&self) -> Result<Made, String> {
        let certificate = self.params()?.self_signed(&self.key).map_err(|e| e.to_string())?;
        Ok(Made { certificate: certificate.pem(), key: self.key.serialize_pem() })
    }

    /// A certificate for servers with these names or addresses, good for their clients' side too.
    ///
    /// # Errors
    /// A name can't be in a certificate.
    pub fn certify(&self, names: &[String], days: u64) -> Result<Made, String> {
        let mut params =
            CertificateParams::new(names.to_vec()).map_err(|error| error.to_string())?;
        params.distinguished_name = named(names.first().map_or("localhost", String::as_str));
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        self.set_times(&mut params, days);
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let issuer = Issuer::new(self.params()?, &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(|error| error.to_string())?;
        Ok(Made { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    fn params(&self) -> Result<CertificateParams, String> {
        let mut params = CertificateParams::new(Vec::new()).map_err(|error| error.to_string())?;
        params.distinguished_name = named(AUTHORITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        self.set_times(&mut params, AUTHORITY_DAYS);
        Ok(params)
    }

    fn set_times(&self, params: &mut CertificateParams, days: u64) {
        const DAY_S: u64 = 86_400;
        let epoch = date_time_ymd(1970, 1, 1);
        let now_s = self.unix_ms / 1000;
        params.not_before = epoch + Duration::from_secs(now_s.saturating_sub(EARLIER_DAYS * DAY_S));
        params.not_after = epoch + Duration::from_secs(now_s + days * DAY_S);
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
