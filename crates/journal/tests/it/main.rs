//! The journal against a disk that fails, tears and forgets.

mod crash;
mod damage;
mod group_commit;
