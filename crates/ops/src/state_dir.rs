//! The directory that is a server's own to write.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::privileges::User;

/// The state directory cannot be used. One line says why.
#[derive(Debug, thiserror::Error)]
#[error("state directory {}: cannot {step}: {source}", path.display())]
pub struct StateDirError {
    path: PathBuf,
    /// What was tried.
    step: &'static str,
    source: io::Error,
}

/// Makes the directory if it is missing, readable by nobody else; if `owner` is given, and we
/// are root, it becomes theirs.
///
/// # Errors
/// [`StateDirError`].
pub fn prepare(path: &Path, owner: Option<&User>) -> Result<(), StateDirError> {
    let failed = |step| move |source| StateDirError { path: path.to_owned(), step, source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create it"))?;
    if let Some(owner) = owner
        && rustix::process::geteuid().is_root()
    {
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))
            .map_err(failed("give it to the user"))?;
    }
    Ok(())
}

/// Makes sure that we can write into the directory: call it as the user who serves.
///
/// # Errors
/// [`StateDirError`].
pub fn check_writable(path: &Path) -> Result<(), StateDirError> {
    let failed = |step| move |source| StateDirError { path: path.to_owned(), step, source };
    let probe = path.join(format!(".probe-{}", std::process::id()));
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&probe)
        .map_err(failed("write to it"))?;
    std::fs::remove_file(&probe).map_err(failed("remove files from it"))?;
    // What a rename promises depends on this.
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("sync it"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn makes_a_private_directory_and_says_what_is_in_the_way() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        prepare(&path, None).unwrap();
        prepare(&path, None).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        check_writable(&path).unwrap();
        assert_eq!(path.read_dir().unwrap().count(), 0);

        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = prepare(&file, None).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("state directory {}: cannot create it: ", file.display()))
        );
        let error = check_writable(&root.path().join("absent")).unwrap_err().to_string();
        assert!(error.contains("cannot write to it"), "{error}");
    }
}
