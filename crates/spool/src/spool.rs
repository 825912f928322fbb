//! The spool itself: what the server and the queue runner call.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use merpati_journal::{AppendError, Disk, DiskFile, Group, Journal, ReadError};
use merpati_plugin::BodyReader;
use merpati_plugin::deliver::MessageSource;
use merpati_plugin::spool::{
    Change, Changed, Cursor, Filter, Health, IndexState, Lease, Listed, MessageInfo, NextHops,
    Parcel, Queued, Settlement, Share, Spool, SpoolError, SpoolWriter, Stats,
};
use merpati_types::{MessageId, Timestamp};
use tokio::sync::Notify;

use crate::body::{Budget, Edited, Stored, blocking, file_name, spool_error};
use crate::core::{BadIndex, Core, Flight, Flying, append_error};
use crate::fact::{Fact, Place, info_of};
use crate::maintain::Work;
use crate::open::{OpenError, Options, Report};
use crate::state::{LaneKey, Stale, View};
use crate::whole::Whole;
use crate::write::{self, Writer};

/// What is taken to stay in memory, at the least, where changes and crowds are counted.
const LEAST_RESIDENT: usize = 1000;

/// How many times what may stay in memory has to have changed until a checkpoint comes early.
/// What is delivered before need never enter the index.
const EARLY: usize = 4;

/// How many times what may stay in memory can be there until mail has to wait.
const CROWD: usize = 10;

/// The spool on a journal, with its index on sled.
///
/// Dropping it closes it, which may wait for the disk; [`Spool::close`] does so
/// off the async threads.
pub struct DiskSpool {
    inner: Arc<Inner>,
    maintenance: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What all parts of the spool share.
pub(crate) struct Inner {
    pub(crate) journal: Journal,
    pub(crate) bodies: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) budget: Arc<Budget>,
    pub(crate) notify: Notify,
    /// Told when a checkpoint has let go of messages.
    pub(crate) room: Notify,
    pub(crate) closed: AtomicBool,
    pub(crate) last_id: AtomicU64,
    /// Where ids begin within a millisecond.
    pub(crate) id_base: u64,
    /// Places that could not be read since the start.
    pub(crate) damaged: AtomicU64,
    pub(crate) index: Mutex<IndexState>,
    pub(crate) whole: Whole,
    pub(crate) work: Sender<Work>,
    pub(crate) core: Mutex<Core>,
}

impl DiskSpool {
    /// Opens the spool in a directory, making it if there is none, and waits until all mail in
    /// it is found again. Waits for the disk.
    ///
    /// # Errors
    /// [`OpenError`]. Damage is no error: what can be served is, and the report tells of
    /// the rest.
    pub fn open(directory: &Path, options: Options) -> Result<(Self, Report), OpenError> {
        let spool = Self::start(directory, options)?;
        let report = Report::clone(&*spool.inner.whole.wait());
        Ok((spool, report))
    }

    /// Opens the spool like [`open`](Self::open), but only until mail can be taken. What was
    /// there before is found again meanwhile; [`whole`](Self::whole) waits for that.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn start(directory: &Path, options: Options) -> Result<Self, OpenError> {
        crate::open::open(directory, options)
    }

    /// Waits until all mail is found again, and tells what was found.
    pub async fn whole(&self) -> Report {
        Report::clone(&*self.inner.whole.wait_for().await)
    }

    /// Has the maintenance thread do all it has to do.
    #[cfg(test)]
    pub(crate) fn tick(&self) {
        let (done, ticked) = std::sync::mpsc::channel();
        self.inner.work.send(Work::Tick(done)).expect("the thread runs");
        ticked.recv().expect("the thread runs");
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn new(inner: Arc<Inner>, maintenance: JoinHandle<()>) -> Self {
        Self { inner, maintenance: Arc::new(Mutex::new(Some(maintenance))) }
    }
}

impl Drop for DiskSpool {
    fn drop(&mut self) {
        close(&self.inner, &self.maintenance);
    }
}

fn close(inner: &Inner, maintenance: &Mutex<Option<JoinHandle<()>>>) {
    inner.closed.store(true, Ordering::Release);
    let thread = maintenance.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(thread) = thread {
        // It has ended if nobody listens.
        let _ = inner.work.send(Work::Close);
        // A panic there was reported by its hook.
        let _ = thread.join();
        inner.journal.close();
        inner.notify.notify_waiters();
    }
}

impl Inner {
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        // Nothing that can panic leaves the state half changed in a way that matters more
        // than going on delivering.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message id that was never given out before.
    pub(crate) fn next_id(&self) -> MessageId {
        let fresh = (now_millis() << ID_BITS) | self.id_base;
        let next = |last: u64| fresh.max(last + 1);
        let last = self
            .last_id
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)))
            .expect("always some");
        MessageId::from_u64(next(last))
    }

    pub(crate) fn set_index(&self, state: IndexState) {
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(crate) fn index_state(&self) -> IndexState {
        *self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it that the index is no good, and has it made anew.
    pub(crate) fn bad_index(&self, bad: &BadIndex) -> SpoolError {
        tracing::error!(%bad, "the spool's index is made anew");
        // If nobody listens the spool is closed.
        let _ = self.work.send(Work::Rebuild);
        SpoolError::Unavailable(std::io::Error::other(bad.to_string()))
    }

    /// Waits while too much is in memory that a checkpoint is about to let go of.
    pub(crate) async fn wait_for_room(&self) -> Result<(), SpoolError> {
        let limit = self.options.resident.max(LEAST_RESIDENT).saturating_mul(CROWD);
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.core().state.near_count() < limit {
                return Ok(());
            }
            if self.index_state() != IndexState::Whole {
                let reason = "too much mail waits while the index is not there".to_owned();
                return Err(SpoolError::Full { reason });
            }
            self.ask_for_checkpoint();
            room.await;
            self.open_for_work()?;
        }
    }

    fn ask_for_checkpoint(&self) {
        if !std::mem::replace(&mut self.core().asked, true) {
            // If nobody listens the spool is closed.
            let _ = self.work.send(Work::Checkpoint);
        }
    }

    pub(crate) fn open_for_mail(&self) -> Result<(), SpoolError> {
        self.open_for_work()?;
        let (octets, files) = (self.options.min_free, self.options.min_free_files);
        let room = self.bodies.room().map_err(SpoolError::Unavailable)?;
        if room.octets < octets {
            let reason = format!("{} octets are free, {octets} are kept free", room.octets);
            return Err(SpoolError::Full { reason });
        }
        if room.files < files {
            let reason = format!("{} more files can be made, {files} are kept free", room.files);
            return Err(SpoolError::Full { reason });
        }
        Ok(())
    }

    fn open_for_work(&self) -> Result<(), SpoolError> {
        if self.closed.load(Ordering::Acquire) {
            let closed = std::io::Error::other("the spool is closed");
            return Err(SpoolError::Unavailable(closed));
        }
        Ok(())
    }

    /// Waits until a flight has landed, and takes it in even if nobody waits any more.
    pub(crate) async fn land(self: &Arc<Self>, flight: Flight) -> Result<(), SpoolError> {
        let mut landing = Landing { inner: self.clone(), flight: Some(flight) };
        let ticket = landing.flight.as_mut().and_then(|flight| flight.ticket.as_mut());
        let result = match ticket {
            Some(ticket) => ticket.await,
            None => Err(AppendError::Closed),
        };
        if let Some(flight) = landing.flight.take() {
            self.landed(flight, result.as_ref());
        }
        result.map(drop).map_err(|error| append_error(&error))
    }

    pub(crate) fn landed(
        &self,
        flight: Flight,
        result: Result<&merpati_journal::Appended, &AppendError>,
    ) {
        let (due, crowded) = {
            let mut core = self.core();
            let due = core.land(flight, result, self.journal.reader().newest());
            let most = self.options.resident.max(LEAST_RESIDENT).saturating_mul(EARLY);
            (due, core.state.dirty_count() >= most && !core.asked)
        };
        if due {
            self.notify.notify_waiters();
        }
        if crowded && self.index_state() == IndexState::Whole {
            self.ask_for_checkpoint();
        }
    }

    /// The message's envelope and the rest, read back unless it is still at hand.
    pub(crate) async fn info(
        self: &Arc<Self>,
        id: MessageId,
        view: &View,
    ) -> Result<Arc<MessageInfo>, SpoolError> {
        if let Some(fresh) = &view.fresh {
            return Ok(fresh.info.clone());
        }
        let (inner, base) = (self.clone(), view.base);
        // What is in the page cache needs no thread to wait for it.
        let meta = match self.journal.reader().meta_at_once(base) {
            Ok(None) => blocking(move || inner.journal.reader().meta(base)).await,
            Ok(Some(meta)) => Ok(meta),
            Err(error) => Err(error),
        };
        let meta = meta.map_err(|error| read_error(id, error))?;
        info_of(&meta).map(Arc::new).map_err(|error| corrupt(id, error.to_string()))
    }

    /// The message's envelope and its received bytes.
    async fn stored(
        self: &Arc<Self>,
        id: MessageId,
        view: View,
    ) -> Result<(Arc<MessageInfo>, Stored), SpoolError> {
        if view.place == Place::File {
            let info = self.info(id, &view).await?;
            let bodies = self.bodies.clone();
            let file = blocking(move || bodies.open(&file_name(id))).await;
            let file: Arc<dyn DiskFile> = file.map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => corrupt(id, "its body file is missing".into()),
                _ => SpoolError::Unavailable(error),
            })?;
            return Ok((info, Stored::File { file, size: view.size }));
        }
        if let Some(fresh) = view.fresh
            && let Some(body) = fresh.body
        {
            return Ok((fresh.info, Stored::Memory(body.bytes)));
        }
        let (inner, base) = (self.clone(), view.base);
        let parts = match self.journal.reader().parts_at_once(base) {
            Ok(None) => blocking(move || inner.journal.reader().parts(base)).await,
            Ok(Some(parts)) => Ok(parts),
            Err(error) => Err(error),
        };
        let (meta, body) = parts.map_err(|error| read_error(id, error))?;
        let info = info_of(&meta).map_err(|error| corrupt(id, error.to_string()))?;
        Ok((Arc::new(info), Stored::Memory(body)))
    }

    /// Runs `read` on a message again if its record has moved meanwhile.
    async fn view<T, F>(
        self: &Arc<Self>,
        id: MessageId,
        mut read: impl FnMut(Arc<Self>, View) -> F,
    ) -> Result<T, SpoolError>
    where
        F: Future<Output = Result<T, SpoolError>>,
    {
        let mut last = None;
        loop {
            let view = self.core().view(id).map_err(|bad| self.bad_index(&bad))?;
            let view = view.ok_or(SpoolError::NotFound)?;
            if last == Some(view.base) {
                return Err(corrupt(id, "its segment is missing".into()));
            }
            last = Some(view.base);
            match read(self.clone(), view).await {
                Err(SpoolError::NotFound) => {}
                other => return other,
            }
        }
    }

    /// Brings more of these lanes into memory; tells if there may be more to find.
    async fn fill(self: &Arc<Self>, lanes: Vec<LaneKey>) -> bool {
        let inner = self.clone();
        let filled = blocking(move || {
            let mut more = false;
            for lane in lanes {
                more |= inner.core().fill(&lane)?;
            }
            Ok::<bool, BadIndex>(more)
        });
        match filled.await {
            Ok(more) => more,
            Err(bad) => {
                self.bad_index(&bad);
                false
            }
        }
    }

    /// Parcels that were leased, with their messages; one that cannot be read is held.
    async fn parcels(self: &Arc<Self>, leases: Vec<Lease>) -> Vec<(Lease, Parcel)> {
        let mut out = Vec::with_capacity(leases.len());
        for lease in leases {
            let id = lease.parcel;
            let info = self.view(id.message, move |inner, view| async move {
                inner.info(id.message, &view).await
            });
            match info.await {
                Ok(info) => {
                    let core = self.core();
                    if let Some(parcel) = core.state.parcel(id) {
                        out.push((lease, parcel.parcel(id, info)));
                    }
                }
                Err(SpoolError::NotFound) => {}
                Err(error) => {
                    tracing::error!(parcel = %id, error = %error, "a parcel cannot be read");
                    let due = Timestamp::from_millis(now_millis() as i64);
                    let later = due.after(Duration::from_secs(3600));
                    // It is tried again in case that was the disk's mood.
                    let _ = self.core().state.release(&lease, later);
                }
            }
        }
        out
    }
}

/// A flight somebody waits for. If they stop waiting, the maintenance thread does.
struct Landing {
    inner: Arc<Inner>,
    flight: Option<Flight>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            // If nobody listens the spool is closed, and the next start will know.
            let _ = self.inner.work.send(Work::Land(flight));
        }
    }
}

/// A message for reading, with its edits.
struct Source(Edited);

#[async_trait]
impl MessageSource for Source {
    fn size(&self) -> u64 {
        self.0.size()
    }

    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        Ok(self.0.open())
    }
}

#[async_trait]
impl Spool for DiskSpool {
    async fn begin(&self) -> Result<Box<dyn SpoolWriter>, SpoolError> {
        self.inner.open_for_mail()?;
        self.inner.wait_for_room().await?;
        Ok(Box::new(Writer::new(self.inner.clone())))
    }

    async fn message(&self, id: MessageId) -> Result<Arc<dyn MessageSource>, SpoolError> {
        let read = move |inner: Arc<Inner>, view| async move { inner.stored(id, view).await };
        let (info, stored) = self.inner.view(id, read).await?;
        let edited = Edited::new(stored, &info).await.map_err(SpoolError::Unavailable)?;
        Ok(Arc::new(Source(edited)))
    }

    async fn lease(
        &self,
        now: Timestamp,
        ttl: Duration,
        next_hops: &NextHops,
        most: usize,
    ) -> Result<Vec<(Lease, Parcel)>, SpoolError> {
        self.inner.open_for_work()?;
        let mut leases = Vec::new();
        loop {
            let wanted = {
                let mut core = self.inner.core();
                let most = most - leases.len();
                let (more, wanted) = core.state.lease(now, now.after(ttl), next_hops, most);
                core.dry = (more.len() < most).then_some(now);
                leases.extend(more);
                wanted
            };
            if wanted.is_empty() || leases.len() == most || !self.inner.fill(wanted).await {
                break;
            }
        }
        Ok(self.inner.parcels(leases).await)
    }

    async fn renew(&self, lease: &Lease, until: Timestamp) -> Result<Lease, SpoolError> {
        self.inner.core().state.renew(lease, until)?;
        Ok(Lease { until, ..lease.clone() })
    }

    async fn release(&self, lease: Lease, due: Timestamp) -> Result<(), SpoolError> {
        let mut core = self.inner.core();
        core.state.release(&lease, due)?;
        core.dry = None;
        drop(core);
        self.inner.notify.notify_waiters();
        Ok(())
    }

    async fn attempt(&self, lease: &Lease, remote: &str) -> Result<(), SpoolError> {
        let id = lease.parcel.message;
        let fact = Fact::Attempt { number: lease.parcel.number, remote: remote.to_owned() };
        let group = Group::from(fact.to_record(id, Vec::new()));
        let flight = {
            let mut core = self.inner.core();
            core.state.check(lease)?;
            let journal = &self.inner.journal;
            let append = || journal.append_urgent(group, merpati_journal::Durability::Written);
            core.launch(journal, vec![Flying::new(id, fact)], None, append)
        };
        self.inner.land(flight).await
    }

    async fn settle(&self, lease: Lease, settlement: Settlement) -> Result<(), SpoolError> {
        write::settle(&self.inner, lease, settlement).await
    }

    async fn wait_due(&self, now: Timestamp) {
        let notified = self.inner.notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        let event = {
            let core = self.inner.core();
            // What the last lease left behind was not wanted: it is no news.
            core.state.next_event(core.dry.filter(|dry| *dry <= now))
        };
        if self.inner.closed.load(Ordering::Acquire) {
            return;
        }
        match event {
            None => notified.await,
            Some(event) if event <= now => {}
            Some(event) => {
                tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep(event.since(now)) => {}
                }
            }
        }
    }

    async fn list(
        &self,
        filter: &Filter,
        cursor: Option<Cursor>,
        most: usize,
    ) -> Result<Vec<Listed>, SpoolError> {
        self.inner.whole.wait_for().await;
        self.inner.list(filter, cursor.map(|Cursor(after)| after), most).await
    }

    async fn change(
        &self,
        filter: &Filter,
        change: &Change,
        after: Option<Cursor>,
        most: usize,
    ) -> Result<Changed, SpoolError> {
        self.inner.whole.wait_for().await;
        self.inner.change(filter, change, after.map(|Cursor(after)| after), most).await
    }

    fn heard(&self, id: MessageId) {
        self.inner.core().repeats.heard(id);
    }

    fn queued(&self, share: Share<'_>) -> Queued {
        self.inner.core().state.queued(share)
    }

    fn health(&self) -> Health {
        let trouble = self.inner.core().trouble.clone();
        let full = match (self.inner.open_for_mail(), &trouble) {
            (Err(SpoolError::Full { reason }), _) => Some(reason),
            (_, Some(AppendError::Full)) => Some("no space for the journal".to_owned()),
            _ => None,
        };
        let failing = trouble.filter(|trouble| !matches!(trouble, AppendError::Full));
        Health {
            full,
            failing: failing.map(|trouble| trouble.to_string()),
            damaged: self.inner.damaged.load(Ordering::Relaxed),
            index: self.inner.index_state(),
        }
    }

    async fn stats(&self) -> Result<Stats, SpoolError> {
        let loading = !matches!(self.inner.index_state(), IndexState::Whole | IndexState::Lost);
        Ok(Stats { loading, ..self.inner.core().state.stats() })
    }

    async fn close(&self) {
        let (inner, maintenance) = (self.inner.clone(), self.maintenance.clone());
        let closing = blocking(move || {
            close(&inner, &maintenance);
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = closing.await;
    }
}

impl From<Stale> for SpoolError {
    fn from(Stale: Stale) -> Self {
        Self::StaleLease
    }
}

pub(crate) fn corrupt(id: MessageId, reason: String) -> SpoolError {
    SpoolError::Corrupt { id, reason }
}

fn read_error(id: MessageId, error: ReadError) -> SpoolError {
    match error {
        ReadError::Gone { .. } => SpoolError::NotFound,
        ReadError::Io(error) => spool_error(error),
        error => corrupt(id, error.to_string()),
    }
}

/// Bits of a message id below its millisecond.
const ID_BITS: u32 = 20;

/// As many bits, others with each call. With each start ids begin elsewhere within a millisecond,
/// and that far above the highest that is known: ids of messages that never came to be are not
/// on the disk, and the clock may say again what it said before.
pub(crate) fn unforeseen_bits() -> u64 {
    RandomState::new().hash_one(std::process::id()) >> (u64::BITS - ID_BITS)
}

pub(crate) fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}
