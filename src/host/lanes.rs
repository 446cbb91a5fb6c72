//! Blocking work on few threads of our own, which a stuck read can hold but the process never waits for.
//!
//! Not tokio's blocking pool: dropping a runtime waits for its threads, and one silent name server would hold the
//! process for as long as it likes. These threads are detached; they end with the process.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Host;
use crate::clean;
use crate::facts::Unread;
use crate::redact::Clean;

/// Threads that work at the same time, as long as none of them hangs.
const WORKING: usize = 8;
/// Threads in all, those included whose call nobody waits for any more.
const THREADS: usize = 40;
/// A call that waited this long while nothing moved gets a thread beyond [`WORKING`].
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a call that was left may take to end before a new one about the same is refused: most that were left late
/// are nearly done.
const ENDING: Duration = Duration::from_millis(100);
/// A thread without work ends after this.
const IDLE: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

/// The threads and what waits for them.
#[derive(Default)]
pub(super) struct Lanes {
    state: Mutex<State>,
    work_came: Condvar,
}

#[derive(Default)]
struct State {
    next_id: u64,
    waiting: BTreeMap<u64, (Arc<str>, Work)>,
    running: BTreeMap<u64, Running>,
    threads: usize,
    idle: usize,
    /// Counts up with every call that begins or ends, so that a waiting one sees whether anything moves.
    moves: u64,
}

struct Running {
    about: Arc<str>,
    /// Nobody waits for it any more: the deadline passed, or the caller was dropped.
    hangs: bool,
}

impl State {
    fn hanging(&self) -> usize {
        self.running.values().filter(|call| call.hangs).count()
    }
    fn wants_thread(&self) -> bool {
        self.waiting.len() > self.idle && self.threads < THREADS
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Lanes")
            .field("threads", &state.threads)
            .field("waiting", &state.waiting.len())
            .field("hanging", &state.hanging())
            .finish()
    }
}

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No caller's code runs under the lock, so a poisoned one is as good as any other.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the work, takes it away by that, and gives the call's number.
    fn enter(self: &Arc<Self>, about: &Arc<str>, work: &mut Option<Work>) -> Result<u64, Refused> {
        let mut state = self.lock();
        if state.running.values().any(|call| call.hangs && call.about == *about) {
            return Err(Refused::StillHangs);
        }
        if state.hanging() >= THREADS {
            return Err(Refused::AllHang);
        }
        let id = state.next_id;
        state.next_id += 1;
        state.waiting.extend(work.take().map(|work| (id, (Arc::clone(about), work))));
        if state.wants_thread() && state.threads - state.hanging() < WORKING {
            self.add_thread(&mut state);
        }
        drop(state);
        self.work_came.notify_one();
        Ok(id)
    }

    /// The same, giving an earlier call about the same a moment to end.
    async fn enter_patiently(
        self: &Arc<Self>,
        about: &Arc<str>,
        deadline: Instant,
        work: Work,
    ) -> Result<u64, Refused> {
        let mut work = Some(work);
        let give_up = deadline.min(Instant::now() + ENDING);
        loop {
            match self.enter(about, &mut work) {
                Err(Refused::StillHangs) if Instant::now() < give_up => tokio::time::sleep(ENDING / 10).await,
                entered => return entered,
            }
        }
    }

    fn add_thread(self: &Arc<Self>, state: &mut State) {
        let lanes = Arc::clone(self);
        // A system that gives no thread leaves the work waiting for those that exist, or for its deadline.
        if std::thread::Builder::new().name("lane".to_owned()).spawn(move || lanes.serve()).is_ok() {
            state.threads += 1;
        }
    }

    /// A thread's life: work, until there is none for a while or too many threads are free.
    fn serve(self: Arc<Self>) {
        let mut state = self.lock();
        loop {
            let Some((id, (about, work))) = state.waiting.pop_first() else {
                state.idle += 1;
                let (woken, waited) = self.work_came.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle -= 1;
                if waited.timed_out() && state.waiting.is_empty() {
                    state.threads -= 1;
                    return;
                }
                continue;
            };
            state.running.insert(id, Running { about, hangs: false });
            state.moves += 1;
            drop(state);
            // The work catches its own panics; this one is for a value that panics when it is dropped unheard.
            let _answered = catch_unwind(AssertUnwindSafe(work));
            state = self.lock();
            state.running.remove(&id);
            state.moves += 1;
            if state.threads - state.hanging() > WORKING && state.waiting.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    /// Nobody waits for a call any more: taken out when it didn't begin, else counted as hanging. Says whether it had
    /// begun.
    fn leave(self: &Arc<Self>, id: u64) -> bool {
        let mut state = self.lock();
        let never_begun = state.waiting.remove(&id);
        if let Some(call) = state.running.get_mut(&id) {
            call.hangs = true;
            if state.wants_thread() {
                self.add_thread(&mut state);
            }
        }
        drop(state);
        never_begun.is_none()
    }

    /// How far things are, and whether this call still waits.
    fn look(&self, id: u64) -> (u64, bool) {
        let state = self.lock();
        (state.moves, state.waiting.contains_key(&id))
    }

    fn add_thread_for_waiting(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.wants_thread() {
            self.add_thread(&mut state);
        }
    }
}

enum Refused {
    StillHangs,
    AllHang,
}

/// Leaves the lane when the caller goes, whichever way.
struct Ticket {
    lanes: Arc<Lanes>,
    id: Option<u64>,
}

impl Ticket {
    /// Leaves and says whether the call had begun.
    fn leave(mut self) -> bool {
        self.id.take().is_none_or(|id| self.lanes.leave(id))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.lanes.leave(id);
        }
    }
}

impl Host {
    /// Runs blocking work on a lane. `about` names what it touches (a path, a database, a name): while an earlier call
    /// about the same still hangs, no second thread is given to it. Past the deadline the answer is an unread of blame
    /// `target` (`no_answer`); when no lane came free in time it is `ours` (`lanes_busy`); a panic is `ours` (`panicked`).
    pub async fn lane<T: Send + 'static>(
        &self,
        about: &str,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unread> {
        self.lanes.run(about, deadline, work).await
    }
}

impl Lanes {
    /// See [`Host::lane`].
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        about: &str,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unread> {
        let (answer, mut answered) = oneshot::channel();
        let begun = Instant::now();
        let about: Arc<str> = Arc::from(about);
        let boxed: Work = Box::new(move || {
            // The value is dropped here when nobody waits for it any more.
            let _unheard = answer.send(catch_unwind(AssertUnwindSafe(work)));
        });
        let id = match self.enter_patiently(&about, deadline, boxed).await {
            Ok(id) => id,
            Err(Refused::StillHangs) => {
                return Err(Unread::target("no_answer", clean!("an earlier look at {} still hangs", named(&about))));
            }
            Err(Refused::AllHang) => {
                return Err(Unread::ours("lanes_busy", clean!("all {THREADS} threads for blocking work hang")));
            }
        };
        let mut ticket = Ticket { lanes: Arc::clone(self), id: Some(id) };
        let mut moves = self.look(id).0;
        let mut waits = true;
        let answer = loop {
            let until = if waits { deadline.min(Instant::now() + PATIENCE) } else { deadline };
            match tokio::time::timeout_at(until, &mut answered).await {
                Ok(answer) => {
                    ticket.id = None;
                    break answer;
                }
                Err(_) if Instant::now() >= deadline => {
                    let took = begun.elapsed().as_secs_f64();
                    return Err(if ticket.leave() {
                        Unread::target("no_answer", clean!("no answer from {} within {took:.1} s", named(&about)))
                    } else {
                        Unread::ours("lanes_busy", clean!("no thread for blocking work came free within {took:.1} s"))
                    });
                }
                Err(_) => {
                    let now = self.look(id);
                    waits = now.1;
                    if waits && now.0 == moves {
                        self.add_thread_for_waiting();
                    }
                    moves = now.0;
                }
            }
        };
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(Unread::ours("panicked", clean!("a defect ended it: {}", panic_words(&*panic)))),
            // Only a thread that the system took away leaves without an answer.
            Err(_) => Err(Unread::ours("panicked", Clean::new("its thread ended without an answer"))),
        }
    }
}

fn named(about: &str) -> Clean {
    Clean::line(about, 200).quoted()
}

/// What a panic said, as one clean line.
#[must_use]
pub fn panic_words(panic: &(dyn Any + Send)) -> Clean {
    let said = panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words");
    Clean::line(said, 200)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn soon(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[tokio::test]
    async fn work_is_done_and_threads_are_few() {
        let lanes = Arc::new(Lanes::default());
        let most = Arc::new(AtomicUsize::new(0));
        let now = Arc::new(AtomicUsize::new(0));
        let calls = (0..200_usize).map(|n| {
            let (lanes, most, now) = (Arc::clone(&lanes), Arc::clone(&most), Arc::clone(&now));
            async move {
                lanes
                    .run(&n.to_string(), soon(20_000), move || {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        n * 2
                    })
                    .await
            }
        });
        let answers = futures_util::future::join_all(calls).await;
        assert!(answers.into_iter().enumerate().all(|(n, answer)| answer == Ok(n * 2)));
        assert!(most.load(Ordering::SeqCst) <= WORKING);
    }

    #[tokio::test]
    async fn a_hung_call_is_left_refused_and_forgotten_when_it_ends() {
        let lanes = Arc::new(Lanes::default());
        let (free, held) = mpsc::channel::<()>();
        let hung = lanes.run("/mnt/dead", soon(50), move || held.recv().is_ok()).await.unwrap_err();
        assert_eq!((hung.blame, hung.code.as_str()), (crate::facts::Blame::Target, "no_answer"));

        let again = lanes.run("/mnt/dead", soon(60_000), || ()).await.unwrap_err();
        assert_eq!(again.code.as_str(), "no_answer");
        assert!(again.said.as_str().contains("still hangs"), "{}", again.said);
        assert_eq!(lanes.run("/mnt/alive", soon(20_000), || 7).await, Ok(7));

        free.send(()).unwrap();
        let give_up = soon(20_000);
        while lanes.run("/mnt/dead", soon(20_000), || ()).await.is_err() {
            assert!(Instant::now() < give_up, "the guard outlived the hung call");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn many_hung_calls_leave_room_for_others_until_all_threads_hang() {
        let lanes = Arc::new(Lanes::default());
        let mut keep = Vec::new();
        for n in 0..THREADS {
            let (free, held) = mpsc::channel::<()>();
            keep.push(free);
            let hung = lanes.run(&format!("dead {n}"), soon(5), move || held.recv().is_ok()).await.unwrap_err();
            if hung.code.as_str() == "lanes_busy" {
                // The thread was slow to start; what counts is the state below.
                continue;
            }
            if lanes.lock().hanging() < THREADS {
                assert_eq!(lanes.run("alive", soon(20_000), || 1).await, Ok(1));
            }
        }
        let give_up = soon(20_000);
        while lanes.lock().hanging() < THREADS {
            assert!(Instant::now() < give_up);
            let (free, held) = mpsc::channel::<()>();
            keep.push(free);
            let about = format!("dead too {}", keep.len());
            lanes.run(&about, soon(20), move || held.recv().is_ok()).await.unwrap_err();
        }
        let refused = lanes.run("alive", soon(60_000), || 1).await.unwrap_err();
        assert_eq!((refused.blame, refused.code.as_str()), (crate::facts::Blame::Ours, "lanes_busy"));
    }

    #[tokio::test]
    async fn slow_calls_that_are_waited_for_do_not_starve_quick_ones() {
        let lanes = Arc::new(Lanes::default());
        let mut frees = Vec::new();
        let mut slow = Vec::new();
        for n in 0..WORKING + 4 {
            let (free, held) = mpsc::channel::<()>();
            frees.push(free);
            let lanes = Arc::clone(&lanes);
            slow.push(tokio::spawn(async move {
                lanes.run(&format!("slow {n}"), soon(30_000), move || held.recv().is_ok()).await
            }));
        }
        assert_eq!(lanes.run("quick", soon(20_000), || 1).await, Ok(1));
        for free in &frees {
            free.send(()).unwrap();
        }
        for call in slow {
            assert_eq!(call.await.unwrap(), Ok(true));
        }
    }

    #[tokio::test]
    async fn a_dropped_call_that_had_not_begun_never_runs() {
        let lanes = Arc::new(Lanes::default());
        lanes.lock().threads = THREADS; // no thread is given
        let ran = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&ran);
        let late = lanes.run("x", soon(20), move || counts.fetch_add(1, Ordering::SeqCst)).await.unwrap_err();
        assert_eq!(late.code.as_str(), "lanes_busy");
        assert!(lanes.lock().waiting.is_empty());
        assert_eq!(Arc::strong_count(&ran), 1, "the work itself is gone");
    }

    #[tokio::test]
    async fn a_panic_is_ours_and_the_thread_goes_on() {
        let lanes = Arc::new(Lanes::default());
        let broken = lanes.run("x", soon(20_000), || -> u8 { std::panic::resume_unwind(Box::new("index 3")) }).await;
        let broken = broken.unwrap_err();
        assert_eq!((broken.blame, broken.code.as_str()), (crate::facts::Blame::Ours, "panicked"));
        assert!(broken.said.as_str().contains("index 3"));
        assert_eq!(lanes.run("x", soon(20_000), || 1).await, Ok(1));
    }

    #[test]
    fn a_hung_call_does_not_hold_the_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (free, held) = mpsc::channel::<()>();
        let lanes = Arc::new(Lanes::default());
        runtime.block_on(lanes.run("x", soon(10), move || held.recv().is_ok())).unwrap_err();
        drop(runtime); // would wait for ever on the blocking pool
        drop(free);
    }
}
