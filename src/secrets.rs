//! Secrets that are kept in files (contract, section 13): read at the start, and again on SIGHUP.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::{self, Config};
use crate::keys::Keys;
use crate::logfmt::Value;

/// The setting that names the file of the internal key.
pub const INTERNAL_KEY: &str = "INTERNAL_KEY_FILE";

/// The setting that names the file of the callbacks' authorization.
pub const CALLBACK_AUTHORIZATION: &str = "CALLBACK_AUTHORIZATION_FILE";

/// Bytes of the largest file that is read.
const MAX_FILE: u64 = 64 * 1024;

/// Why a file gives no secret; displays as one sentence for people, with a remedy. It holds nothing of
/// the file.
#[derive(Debug)]
pub struct SecretError {
    /// The setting that names the file.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum Fault {
    /// It is not there, or not for this user.
    Unreadable(io::Error),
    /// It is a folder, a pipe or a device, which would have to be waited for.
    NoFile,
    /// There is nothing in it.
    Empty,
    /// It is too large for a secret.
    TooLarge,
    /// What is in it cannot be used; this can be.
    Unusable(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Fault::NoFile => f.write_str("is no regular file"),
            Fault::Empty => f.write_str("is empty"),
            Fault::TooLarge => write!(f, "is larger than {} KiB", MAX_FILE / 1024),
            Fault::Unusable(allowed) => write!(f, "does not hold {allowed}"),
        }
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SecretError {
            setting,
            path,
            fault,
        } = self;
        let path = Value::new(path.as_os_str().as_encoded_bytes());
        write!(
            f,
            "{setting} is {path}, but that {fault}; put the value into a file there that this user may \
             read, or unset {setting}"
        )
    }
}

impl std::error::Error for SecretError {}

/// The files that the settings name.
#[derive(Clone, Debug, Default)]
pub struct SecretFiles {
    /// Of the internal key.
    pub internal_key: Option<PathBuf>,
    /// Of the callbacks' authorization.
    pub callback_authorization: Option<PathBuf>,
}

impl SecretFiles {
    /// Those of a configuration.
    pub fn of(config: &Config) -> SecretFiles {
        SecretFiles {
            internal_key: config.internal_key_file.clone(),
            callback_authorization: config.callback_authorization_file.clone(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.internal_key.is_none() && self.callback_authorization.is_none()
    }

    /// Reads the internal key; `None` when that is in no file.
    ///
    /// # Errors
    /// The file gives none.
    pub fn internal_key(&self) -> Option<Result<Keys, SecretError>> {
        let path = self.internal_key.as_deref()?;
        Some(read(INTERNAL_KEY, path, Keys::parse))
    }

    /// Reads the callbacks' authorization; `None` when that is in no file.
    ///
    /// # Errors
    /// The file gives none.
    pub fn callback_authorization(&self) -> Option<Result<String, SecretError>> {
        let path = self.callback_authorization.as_deref()?;
        let read = read(CALLBACK_AUTHORIZATION, path, config::parse_authorization);
        Some(read)
    }
}

/// Puts what the files hold into a configuration that names them.
///
/// # Errors
/// One of them gives nothing that can be used.
pub fn fill(config: &mut Config) -> Result<(), SecretError> {
    let files = SecretFiles::of(config);
    if let Some(keys) = files.internal_key() {
        config.internal_key = Some(keys?);
    }
    if let Some(value) = files.callback_authorization() {
        config.callback_authorization = Some(value?);
    }
    Ok(())
}

/// Spaces and line ends around what a file holds count for nothing: editors end it with one.
fn read<T>(
    setting: &'static str,
    path: &Path,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<T, SecretError> {
    let read = content(path).and_then(|bytes| {
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            return Err(Fault::Empty);
        }
        // A character that no secret has: asked only for what is allowed.
        let text = str::from_utf8(bytes).unwrap_or("\u{fffd}");
        parse(text).map_err(Fault::Unusable)
    });
    read.map_err(|fault| SecretError {
        setting,
        path: path.to_owned(),
        fault,
    })
}

/// `O_NONBLOCK`, as Linux has it on every architecture that Rust supports with it, MIPS and SPARC aside:
/// there opening a pipe may wait.
const O_NONBLOCK: i32 = 0o4000;

fn content(path: &Path) -> Result<Vec<u8>, Fault> {
    let is_file = |it: fs::Metadata| it.is_file().then_some(()).ok_or(Fault::NoFile);
    fs::metadata(path)
        .map_err(Fault::Unreadable)
        .and_then(is_file)?;
    // Opening a pipe would wait for whoever writes into it, and one may have come to stand there since.
    let file = File::options()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .map_err(Fault::Unreadable)?;
    file.metadata()
        .map_err(Fault::Unreadable)
        .and_then(is_file)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(Fault::Unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Fault::TooLarge);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::{env, process};

    use super::*;

    /// A folder of one test's own; removed when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("ssegateway-{}-{name}", process::id());
            let folder = Folder(env::temp_dir().join(name));
            fs::create_dir(&folder.0).expect("a folder");
            folder
        }

        fn file(&self, content: &[u8]) -> PathBuf {
            let path = self.0.join("a secret");
            fs::write(&path, content).expect("a file");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn key(path: PathBuf) -> Result<Keys, SecretError> {
        let internal_key = Some(path);
        let files = SecretFiles {
            internal_key,
            ..SecretFiles::default()
        };
        assert!(!files.is_empty() && files.callback_authorization().is_none());
        files.internal_key().expect("a file")
    }

    fn authorization(path: PathBuf) -> Result<String, SecretError> {
        let callback_authorization = Some(path);
        let files = SecretFiles {
            callback_authorization,
            ..SecretFiles::default()
        };
        assert!(!files.is_empty() && files.internal_key().is_none());
        files.callback_authorization().expect("a file")
    }

    #[test]
    fn a_file_holds_what_the_setting_would() {
        let folder = Folder::new("secrets");
        for (content, expected) in [
            (&b"k"[..], "k"),
            (b"k\n", "k"),
            (b"\r\n k,l \r\n\n", "k,l"),
            (b"a,\nb", "a,b"),
        ] {
            let key = key(folder.file(content)).expect("a key");
            assert!(key == Keys::parse(expected).expect("a key"), "{expected}");
        }
        for (content, expected) in [
            (&b"Bearer k\n"[..], "Bearer k"),
            (b"\tBasic a2V5\r\n", "Basic a2V5"),
            (b"a  b", "a  b"),
        ] {
            let value = authorization(folder.file(content)).expect("a value");
            assert_eq!(value, expected);
        }
        let largest = [vec![b'k'; 64 * 1024 - 1], vec![b'\n']].concat();
        assert!(key(folder.file(&largest)).is_ok());
        let none = SecretFiles::default();
        assert!(none.is_empty() && none.internal_key().is_none());
    }

    #[test]
    fn a_file_that_gives_nothing_is_named_with_a_remedy_and_never_shown() {
        let folder = Folder::new("no-secrets");
        let sentence = |error: SecretError| {
            let sentence = error.to_string();
            assert!(!sentence.contains("hunter2"), "{sentence}");
            assert!(!format!("{error:?}").contains("hunter2"));
            let remedy = format!("or unset {}", error.setting);
            assert!(sentence.starts_with(error.setting), "{sentence}");
            assert!(sentence.ends_with(&remedy), "{sentence}");
            assert!(!sentence.contains('\n'), "{sentence}");
            sentence
        };
        let large = "hunter2".repeat(64 * 1024 / 7 + 1);
        for (content, fault) in [
            (&b""[..], "is empty"),
            (b" \r\n\t\n", "is empty"),
            (b"hunter2 hunter2", "does not hold a key"),
            (b"hunter2\nhunter2", "does not hold a key"),
            (b"hunter2,hunter2,hunter2", "does not hold a key"),
            (b"\xef\xbb\xbfhunter2", "does not hold a key"),
            (b"\xffhunter2", "does not hold a key"),
            (b"hunter2\0", "does not hold a key"),
            (large.as_bytes(), "is larger than 64 KiB"),
        ] {
            let path = folder.file(content);
            let error = key(path.clone()).expect_err(fault);
            let sentence = sentence(error);
            assert!(sentence.contains(fault), "{sentence}");
            assert!(sentence.contains(&format!("is {:?}", path)), "{sentence}");
        }
        let long = "hunter2".repeat(600);
        for content in [
            &b"hunter2\nhunter2"[..],
            "hunter2\u{e9}".as_bytes(),
            b"\xffhunter2",
            b"hunter2\0",
            long.as_bytes(),
        ] {
            let error = authorization(folder.file(content)).expect_err("no value");
            let sentence = sentence(error);
            let allowed = "does not hold the value of a header field of at most 4000 bytes";
            assert!(sentence.contains(allowed), "{sentence}");
        }
        let missing = key(folder.0.join("missing")).expect_err("no file");
        assert!(sentence(missing).contains("cannot be read: No such file"));
        let file = folder.file(b"hunter2").join("x");
        assert!(sentence(key(file).expect_err("no file")).contains("cannot be read: Not a dir"));
    }

    /// Whoever opened one of these would wait, and the loop with him.
    #[test]
    fn only_regular_files_are_opened() {
        let folder = Folder::new("no-files");
        let socket = folder.0.join("socket");
        let _listener = UnixListener::bind(&socket).expect("a socket");
        let pipe = folder.0.join("pipe");
        let made = process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo of coreutils runs").success());
        for path in [socket, pipe, folder.0.clone(), "/dev/zero".into()] {
            let error = key(path).expect_err("no file");
            assert!(matches!(error.fault, Fault::NoFile), "{error}");
        }
        let link = folder.0.join("link");
        std::os::unix::fs::symlink(folder.file(b"k"), &link).expect("a link");
        assert!(key(link).is_ok());
    }

    #[test]
    fn a_configuration_is_filled() {
        let folder = Folder::new("filled");
        let path = folder.file(b"Bearer\n");
        let config = |name: &'static str, path: PathBuf| {
            let facts = config::HostFacts {
                descriptors: 1000,
                taken: 0,
                has_internal: false,
            };
            let env = |asked: &str| (asked == name).then(|| path.clone().into_os_string());
            match Config::from_sources(std::iter::empty(), env, &facts) {
                Ok(config::Invocation::Run(config)) => config,
                other => panic!("{other:?}"),
            }
        };
        let mut with_key = config(INTERNAL_KEY, path.clone());
        assert!(fill(&mut with_key).is_ok());
        assert!(with_key.internal_key == Keys::parse("Bearer").ok());
        assert_eq!(with_key.callback_authorization, None);
        let mut with_value = config(CALLBACK_AUTHORIZATION, path);
        assert!(fill(&mut with_value).is_ok());
        assert_eq!(with_value.callback_authorization.as_deref(), Some("Bearer"));
        assert!(with_value.internal_key.is_none());
        for name in [INTERNAL_KEY, CALLBACK_AUTHORIZATION] {
            assert!(fill(&mut config(name, folder.0.join("missing"))).is_err());
        }
        let mut without = config("PORT", "3000".into());
        assert!(fill(&mut without).is_ok());
    }
}
