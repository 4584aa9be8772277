//! Two sessions with a wire between them that cuts where it likes; files that are wrong; names and certificates.

use std::path::{Path, PathBuf};

use rustls::HandshakeKind;

use super::development::{Authority, Made};
use super::*;
use crate::ring::random::Random;

/// A folder with an authority and certificates, removed with the test.
pub struct Certificates {
    folder: PathBuf,
    authority: Authority,
}

impl Certificates {
    pub fn make() -> Certificates {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("socketley-tls-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let authority = Authority::new(None, crate::ring::clock::now().unix_ms).unwrap();
        let made = Certificates { folder, authority };
        made.write("ca.pem", &made.authority.own().unwrap().certificate);
        made
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Makes `STEM.pem` and `STEM.key` for a name.
    pub fn certify(&self, stem: &str, name: &str) {
        let Made { certificate, key } = self.authority.certify(&[name.to_owned()], 30).unwrap();
        self.write(&format!("{stem}.pem"), &certificate);
        self.write(&format!("{stem}.key"), &key);
    }

    fn files(&self, stem: &str) -> Files {
        Files {
            certificates: vec![self.path(&format!("{stem}.pem"))],
            keys: vec![self.path(&format!("{stem}.key"))],
            authorities: None,
        }
    }

    /// Of a server with a certificate that this makes.
    pub fn server(&self, name: &str) -> Settings {
        self.certify(name, name);
        Settings { mode: Mode::On, files: self.files(name), ..Settings::default() }
    }

    /// Of a client that trusts this authority.
    pub fn client(&self) -> Settings {
        let authorities = Some(self.path("ca.pem"));
        let files = Files { authorities, ..Files::default() };
        Settings { mode: Mode::On, files, ..Settings::default() }
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// One end: a session, what its runtime sends, what it hears.
struct End {
    session: Session,
    outbox: Outbox,
    room: Room,
    heard: Vec<u8>,
    opened: bool,
    ended: bool,
}

use crate::net::Outbox;

impl End {
    fn new(session: Session) -> End {
        let (outbox, room) = (Outbox::new(), Room::default());
        End { session, outbox, room, heard: Vec::new(), opened: false, ended: false }
    }

    /// Everything that goes to the wire now.
    fn records(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(chunks) = self.session.take_send(&mut self.outbox).unwrap() {
            let count = chunks.list.iter().map(|chunk| chunk.bytes().len()).sum::<usize>();
            chunks.list.iter().for_each(|chunk| bytes.extend_from_slice(chunk.bytes()));
            self.session.on_sent(Ok(count - chunks.sent), chunks).unwrap();
        }
        bytes
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), rustls::Error> {
        let outcome = self.session.receive(bytes, &mut self.room);
        self.heard.extend_from_slice(&self.room.plain);
        let progress = outcome?;
        assert!(!(progress.opened && self.opened), "it opens once");
        self.opened |= progress.opened;
        self.ended |= progress.ended;
        Ok(())
    }
}

/// Lets both talk, in pieces of random sizes, until neither has anything to say.
fn talk(ends: &mut [End; 2], random: &mut Random) -> Result<(), rustls::Error> {
    loop {
        let mut quiet = true;
        for at in 0..2 {
            let bytes = ends[at].records();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                quiet = false;
                let most = if random.chance(300) { 7 } else { rest.len() as u64 };
                let count = (1 + random.below(most) as usize).min(rest.len());
                ends[1 - at].take(&rest[..count])?;
                rest = &rest[count..];
            }
        }
        if quiet {
            return Ok(());
        }
    }
}

fn pair(server: &Tls, client: &Tls, host: &str) -> [End; 2] {
    [End::new(client.dial(host).unwrap()), End::new(server.accept().unwrap())]
}

#[test]
fn bytes_cross_whole_however_the_wire_cuts() {
    let files = Certificates::make();
    let server = files.server("localhost").load(false, None).unwrap();
    let client = files.client().load(true, None).unwrap();
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut ends = pair(&server, &client, "localhost");
        let mut said = [Vec::new(), Vec::new()];
        // What is said before the handshake waits for it.
        for _ in 0..1 + random.below(5) {
            for at in 0..2 {
                let exponent = random.below(19);
                let bytes: Vec<u8> =
                    (0..random.below(1 << exponent)).map(|n| (n ^ seed) as u8).collect();
                match random.below(3) {
                    0 => ends[at].outbox.append(&bytes),
                    1 => ends[at].outbox.append_owned(bytes.clone()),
                    _ => ends[at].outbox.append_shared(&bytes.as_slice().into()),
                }
                said[at].extend_from_slice(&bytes);
            }
            talk(&mut ends, &mut random).unwrap();
        }
        assert!(ends[0].opened && ends[1].opened, "seed {seed}");
        assert!(ends[0].heard == said[1] && ends[1].heard == said[0], "seed {seed}");
        // A half-close: the other side still speaks.
        assert!(ends[0].session.close() && !ends[0].session.close());
        talk(&mut ends, &mut random).unwrap();
        assert!(ends[1].ended && !ends[0].ended);
        ends[1].outbox.append(b"last words");
        assert!(ends[0].outbox.is_empty());
        talk(&mut ends, &mut random).unwrap();
        assert!(ends[0].heard.ends_with(b"last words"));
        assert!(ends[1].session.close());
        talk(&mut ends, &mut random).unwrap();
        assert!(ends[0].ended && ends[0].session.wire_bytes() == 0);
    }
}

#[test]
fn a_record_that_was_touched_ends_it_with_an_alert() {
    let files = Certificates::make();
    let server = files.server("localhost").load(false, None).unwrap();
    let client = files.client().load(true, None).unwrap();
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut ends = pair(&server, &client, "localhost");
        talk(&mut ends, &mut random).unwrap();
        ends[0].outbox.append(b"pay 10 to bob");
        let mut record = ends[0].records();
        let at = random.below(record.len() as u64) as usize;
        record[at] ^= 1 << random.below(8);
        let outcome = ends[1].take(&record);
        // The version says nothing (RFC 8446 5.1); a length that became longer waits for more; all else is noticed.
        match outcome {
            Err(_) => {
                assert!(ends[1].session.has_records(), "seed {seed}: no alert");
                assert!(ends[1].heard.is_empty(), "seed {seed}: a touched record is passed on");
            }
            Ok(()) if (1..3).contains(&at) => assert_eq!(ends[1].heard, b"pay 10 to bob"),
            Ok(()) => {
                assert!((3..5).contains(&at) && ends[1].heard.is_empty(), "seed {seed}: {at}");
            }
        }
    }
}

#[test]
fn what_is_no_tls_at_all_is_refused() {
    let files = Certificates::make();
    let server = files.server("localhost").load(false, None).unwrap();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"*1\r\n$4\r\nPING\r\n",
        &[0x16, 3, 1, 0xff, 0xff, 1],
        &[0x15, 3, 3, 0, 2, 2, 40],
        &[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10],
        &[0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5],
    ] {
        let mut end = End::new(server.accept().unwrap());
        let outcome = end.take(bytes).and_then(|()| end.take(&[0; 70_000]));
        assert!(outcome.is_err() && !end.opened, "{bytes:?}");
        assert!(!end.session.close(), "nothing stands that could be closed");
    }
}

#[test]
fn certificates_are_chosen_by_name() {
    let files = Certificates::make();
    let mut settings = files.server("localhost");
    files.certify("b", "b.example.test");
    files.certify("w", "*.wild.test");
    for stem in ["b", "w"] {
        settings.files.certificates.push(files.path(&format!("{stem}.pem")));
        settings.files.keys.push(files.path(&format!("{stem}.key")));
    }
    let server = settings.load(false, None).unwrap();
    let client = files.client().load(true, None).unwrap();
    for (name, fits) in [
        ("localhost", true),
        ("b.example.test", true),
        ("x.wild.test", true),
        ("LOCALHOST", true),
        ("c.example.test", false),
        ("wild.test", false),
    ] {
        let mut ends = pair(&server, &client, name);
        assert_eq!(talk(&mut ends, &mut Random::new(1)).is_ok(), fits, "{name}");
    }
}

#[test]
fn a_server_is_who_it_must_be() {
    let (files, others) = (Certificates::make(), Certificates::make());
    let server = files.server("localhost").load(false, None).unwrap();
    let meet = |settings: Settings, host: &str| {
        let client = settings.load(true, None).unwrap();
        talk(&mut pair(&server, &client, host), &mut Random::new(2)).is_ok()
    };
    let named = Settings { server_name: Some("localhost".to_owned()), ..files.client() };
    let blind = Settings { insecure: true, mode: Mode::On, ..Settings::default() };
    assert!(meet(files.client(), "localhost"));
    assert!(!meet(files.client(), "127.0.0.1"), "the certificate doesn't name the address");
    assert!(meet(named, "127.0.0.1"));
    assert!(!meet(others.client(), "localhost"), "another authority");
    assert!(meet(blind, "anyone"));
}

#[test]
fn clients_must_show_a_certificate_where_an_authority_is_named() {
    let (files, others) = (Certificates::make(), Certificates::make());
    let mut settings = files.server("localhost");
    settings.files.authorities = Some(files.path("ca.pem"));
    let server = settings.load(false, None).unwrap();
    files.certify("me", "me");
    others.certify("me", "me");
    let meet = |own: Option<&Certificates>| {
        let mut settings = files.client();
        if let Some(own) = own {
            settings.files = Files { authorities: settings.files.authorities, ..own.files("me") };
        }
        let client = settings.load(true, None).unwrap();
        let mut ends = pair(&server, &client, "localhost");
        let outcome = talk(&mut ends, &mut Random::new(3));
        (outcome.is_ok(), ends[1].opened, ends[1].session.agreed().peer_certificates().is_some())
    };
    assert_eq!(meet(Some(&files)), (true, true, true));
    assert_eq!(meet(None), (false, false, false));
    assert_eq!(meet(Some(&others)), (false, false, false));
}

/// A reload of certificates keeps tickets good, but where clients are verified they must be verified again.
#[test]
fn sessions_are_resumed_also_after_a_reload() {
    let files = Certificates::make();
    let settings = files.server("localhost");
    let server = settings.load(false, None).unwrap();
    let client = files.client().load(true, None).unwrap();
    let kind = |server: &Tls| {
        let mut ends = pair(server, &client, "localhost");
        talk(&mut ends, &mut Random::new(4)).unwrap();
        ends[1].session.agreed().handshake_kind().unwrap()
    };
    assert_eq!(kind(&server), HandshakeKind::Full);
    assert_eq!(kind(&server), HandshakeKind::Resumed);
    let reloaded = settings.load(false, Some(&server)).unwrap();
    assert_eq!(kind(&reloaded), HandshakeKind::Resumed);
    let mut verifying = settings.clone();
    verifying.files.authorities = Some(files.path("ca.pem"));
    let strict = verifying.load(false, Some(&server)).unwrap();
    let mut ends = pair(&strict, &client, "localhost");
    assert!(talk(&mut ends, &mut Random::new(5)).is_err(), "a ticket is no certificate");
}

#[test]
fn protocols_are_agreed_on() {
    let files = Certificates::make();
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let agreed = |server: &[&str], client: &[&str]| {
        let server = Settings { protocols: names(server), ..files.server("localhost") };
        let client = Settings { protocols: names(client), ..files.client() };
        let (server, client) =
            (server.load(false, None).unwrap(), client.load(true, None).unwrap());
        let mut ends = pair(&server, &client, "localhost");
        talk(&mut ends, &mut Random::new(6)).ok()?;
        Some(ends[0].session.agreed().alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(agreed(&["h2", "http/1.1"], &["http/1.1"]), Some(Some(b"http/1.1".to_vec())));
    assert_eq!(agreed(&[], &["http/1.1"]), Some(None));
    assert_eq!(agreed(&["http/1.1"], &[]), Some(None));
    assert_eq!(agreed(&["h2"], &["redis"]), None);
}

#[test]
fn wrong_files_are_refused_with_the_reason() {
    let files = Certificates::make();
    let good = files.server("localhost");
    files.certify("other", "other.test");
    files.write("empty.pem", "");
    files.write("text.pem", "hello");
    files.write("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let both = [files.path("localhost.pem"), files.path("localhost.key")]
        .map(|path| std::fs::read_to_string(path).unwrap())
        .concat();
    files.write("both.pem", &both);
    /// Certificates, keys, authorities, and what is said.
    type Case =
        (&'static [&'static str], &'static [&'static str], Option<&'static str>, &'static str);
    let cases: &[Case] = &[
        (&["localhost.pem"], &["localhost.key"], None, ""),
        (&["both.pem"], &[], None, ""),
        (&[], &[], None, "tls needs a certificate"),
        (&["none.pem"], &["localhost.key"], None, "none.pem: No such file"),
        (&["localhost.pem"], &["none.key"], None, "none.key: No such file"),
        (&["empty.pem"], &["localhost.key"], None, "empty.pem holds no certificate"),
        (&["text.pem"], &["localhost.key"], None, "text.pem holds no certificate"),
        (&["localhost.key"], &["localhost.key"], None, "localhost.key holds no certificate"),
        (&["torn.pem"], &["localhost.key"], None, "a certificate in"),
        (&["localhost.pem"], &["localhost.pem"], None, "localhost.pem holds no private key"),
        (&["localhost.pem"], &[], None, "localhost.pem holds no private key"),
        (&["localhost.pem"], &["other.key"], None, "doesn't belong to the certificate"),
        (&["localhost.pem"], &["localhost.key", "other.key"], None, "2 keys for 1 certificates"),
        (&["localhost.pem"], &["localhost.key"], Some("none.pem"), "none.pem: No such file"),
        (&["localhost.pem"], &["localhost.key"], Some("ca.pem"), ""),
    ];
    let paths = |names: &[&str]| names.iter().map(|name| files.path(name)).collect::<Vec<_>>();
    for (certificates, keys, authorities, expected) in cases {
        let files = Files {
            certificates: paths(certificates),
            keys: paths(keys),
            authorities: authorities.map(|name| files.path(name)),
        };
        let outcome = Settings { files, ..good.clone() }.load(false, None);
        match outcome {
            Ok(_) => assert_eq!(*expected, "", "{certificates:?} {keys:?}"),
            Err(error) => {
                let fits = !expected.is_empty() && error.message.contains(expected);
                assert!(fits, "{certificates:?} {keys:?}: {error}");
            }
        }
    }
    let off = Settings { mode: Mode::Off, ..good };
    assert!(off.load(false, None).err().unwrap().message.contains("TLS, which is off"));
}

#[test]
fn paths_are_anchored_where_they_are_named() {
    let mut settings = Settings::default();
    settings.files.certificates = vec!["a.pem".into(), "/b.pem".into()];
    settings.anchor(Path::new("/etc/x"));
    assert_eq!(settings.files().collect::<Vec<_>>(), ["/etc/x/a.pem", "/b.pem"].map(Path::new));
}

/// What a connection that says nothing costs: beyond this only the allocator's rounding.
#[test]
fn an_idle_session_keeps_no_buffers() {
    let files = Certificates::make();
    let server = files.server("localhost").load(false, None).unwrap();
    let client = files.client().load(true, None).unwrap();
    let mut ends = pair(&server, &client, "localhost");
    talk(&mut ends, &mut Random::new(7)).unwrap();
    ends[0].outbox.append(&[7; 100_000]);
    ends[1].outbox.append(&[7; 100_000]);
    talk(&mut ends, &mut Random::new(7)).unwrap();
    for end in &ends {
        assert_eq!((end.session.incoming.capacity(), end.session.wire.capacity()), (0, 0));
    }
    assert!(size_of::<Session>() <= 200, "{}", size_of::<Session>());
}
