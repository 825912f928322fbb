//! Becoming nobody in particular: sockets are bound first, then root is given up for good.

use std::io;

use rustix::fs::Mode;
use rustix::process::{Gid, Uid};
use rustix::thread;

/// A user of this system, and the groups they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name, or the number as text.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
}

/// Privileges are not as they must be. One line says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivilegeError {
    /// There is no such user.
    #[error("user `{0}` is not in /etc/passwd")]
    UnknownUser(String),
    /// The files of users cannot be read.
    #[error("cannot read {file}: {source}")]
    Unreadable {
        /// Which.
        file: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Started as root without a user to become.
    #[error("refusing to serve as root: set `user` in the configuration")]
    Root,
    /// The user to become is root.
    #[error("refusing to serve as `{0}`, which is root")]
    RootUser(String),
    /// Only root can become somebody else.
    #[error("cannot become `{0}`: not started as root")]
    NotRoot(String),
    /// Threads keep their privileges when another thread drops its own.
    #[error("privileges must be dropped before threads are started")]
    Threads,
    /// The system refused.
    #[error("cannot become `{user}`: {source}")]
    Refused {
        /// Whom.
        user: String,
        /// What the system said.
        source: io::Error,
    },
}

impl User {
    /// Finds a user by name in `/etc/passwd` and their groups in `/etc/group`; directories
    /// behind NSS are not asked.
    ///
    /// # Errors
    /// [`PrivilegeError::UnknownUser`], [`PrivilegeError::Unreadable`].
    pub fn find(name: &str) -> Result<Self, PrivilegeError> {
        let read = |file| {
            std::fs::read_to_string(file)
                .map_err(|source| PrivilegeError::Unreadable { file, source })
        };
        Self::look_up(name, &read("/etc/passwd")?, &read("/etc/group")?)
            .ok_or_else(|| PrivilegeError::UnknownUser(name.to_owned()))
    }

    /// `name:password:uid:gid:…` in passwd(5), `name:password:gid:user,user` in group(5).
    fn look_up(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let found = passwd.lines().map(fields).find(|fields| fields[0] == name)?;
        let uid = found.get(2)?.parse().ok()?;
        let gid = found.get(3)?.parse().ok()?;
        let mut groups = vec![gid];
        for fields in group.lines().map(fields) {
            let [_, _, number, members] = &fields[..] else { continue };
            let Ok(number) = number.parse() else { continue };
            if members.split(',').any(|member| member == name) && !groups.contains(&number) {
                groups.push(number);
            }
        }
        Some(Self { name: name.to_owned(), uid, gid, groups })
    }

    fn is_current(&self) -> bool {
        rustix::process::geteuid().as_raw() == self.uid
    }
}

/// Whether we may serve as who we are: not as root, unless there is a user to become; and as
/// nobody else than that user.
///
/// # Errors
/// [`PrivilegeError`] says what to do.
pub fn check(user: Option<&User>) -> Result<(), PrivilegeError> {
    let root = rustix::process::geteuid().is_root();
    match user {
        Some(user) if user.uid == 0 => Err(PrivilegeError::RootUser(user.name.clone())),
        Some(user) if !root && !user.is_current() => {
            Err(PrivilegeError::NotRoot(user.name.clone()))
        }
        None if root => Err(PrivilegeError::Root),
        _ => Ok(()),
    }
}

/// Becomes `user` for good, if we are root; stays who we are, if that is the user already. Files
/// that are made from here on are readable by nobody else.
///
/// # Errors
/// As [`check`]; [`PrivilegeError::Threads`] when the process has more than one thread, for on
/// Linux each has privileges of its own.
pub fn drop_to(user: &User) -> Result<(), PrivilegeError> {
    check(Some(user))?;
    restrict_files();
    if user.is_current() {
        return Ok(());
    }
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(PrivilegeError::Threads);
    }
    become_user(user)
        .map_err(|source| PrivilegeError::Refused { user: user.name.clone(), source })?;
    // A way back would be a hole.
    if thread::set_thread_uid(Uid::ROOT).is_ok() {
        let source = io::Error::other("root could be regained");
        return Err(PrivilegeError::Refused { user: user.name.clone(), source });
    }
    Ok(())
}

/// Files that are made from here on are readable by nobody else.
pub fn restrict_files() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

fn become_user(user: &User) -> io::Result<()> {
    let groups: Vec<_> = user.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    // Groups first: without root they can no longer be changed.
    thread::set_thread_groups(&groups)?;
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_thread_res_uid(uid, uid, uid)?;
    thread::set_no_new_privs(true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_users_and_their_groups() {
        let passwd = "root:x:0:0::/root:/bin/sh\nmail:x:8:12::/:/bin/false\nbroken\nmailer:x:z:1\n";
        let group = "root:x:0:\nmail:x:12:mail\ntls:x:20:www,mail\nbroken\nx:x:30:mailer\n";
        let mail = User::look_up("mail", passwd, group);
        let expected = User { name: "mail".to_owned(), uid: 8, gid: 12, groups: vec![12, 20] };
        assert_eq!(mail, Some(expected));
        assert_eq!(User::look_up("nobody", passwd, group), None);
        assert_eq!(User::look_up("mailer", passwd, group), None);
    }

    #[test]
    fn refuses_to_serve_as_root() {
        let root = User::find("root").unwrap();
        assert!(matches!(check(Some(&root)), Err(PrivilegeError::RootUser(_))));
        let other = User { uid: 60_000, ..root };
        if rustix::process::geteuid().is_root() {
            assert!(matches!(check(None), Err(PrivilegeError::Root)));
            check(Some(&other)).unwrap();
            // The test runner has threads.
            assert!(matches!(drop_to(&other), Err(PrivilegeError::Threads)));
        } else {
            check(None).unwrap();
            assert!(matches!(check(Some(&other)), Err(PrivilegeError::NotRoot(_))));
        }
    }
}
