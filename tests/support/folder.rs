//! Folders of one test's own.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder whose path is short enough for sockets in it; removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ssegateway-{}-{number}-{name}", process::id());
        let folder = Folder(env::temp_dir().join(name));
        fs::create_dir(&folder.0).expect("a folder");
        fs::set_permissions(&folder.0, Permissions::from_mode(0o755)).expect("its owner");
        folder
    }

    /// A path in it, of nothing as yet.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
