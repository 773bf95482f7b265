//! Working memory of an engine: a few lanes, made when they are first needed, as far as memory goes.
//!
//! When no further lane can be made, those that exist have to do: the error is logged, the number of
//! lanes is what [`Lanes::at_once`] says, so that the pool and its admission go by it, and nothing is
//! tried again for a minute. A lane whose user panicked is thrown away: nobody knows what it holds.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::memory::{self, Need};

/// Time until another lane is tried after one could not be made.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// How often somebody who waits for a lane looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(20);

/// Lanes of one kind.
pub(super) struct Lanes<T> {
    inner: Mutex<Inner<T>>,
    returned: Condvar,
    limit: usize,
    need: Need,
}

struct Inner<T> {
    free: VecDeque<T>,
    /// Lanes that exist or are being made.
    made: usize,
    /// No lane is tried before this.
    short_until: Option<Instant>,
}

impl<T> Lanes<T> {
    /// At most `limit` lanes, of which `first` is there already; each further one needs as much memory
    /// as `need` says.
    pub(super) fn new(first: T, limit: usize, need: Need) -> Self {
        let inner = Inner { free: VecDeque::from([first]), made: 1, short_until: None };
        Self { inner: Mutex::new(inner), returned: Condvar::new(), limit: limit.max(1), need }
    }

    /// Returns how many can work at the same time.
    pub(super) fn at_once(&self) -> usize {
        let inner = self.lock();
        if inner.is_short() { inner.made.max(1) } else { self.limit }
    }

    /// Works with a lane: a free one, or a new one, or one that comes back; `go_on` is asked while it
    /// waits.
    ///
    /// # Errors
    /// Those of `work` and of `go_on`; that of `make` when there is no lane at all.
    pub(super) fn run<R, E: Display>(
        &self,
        make: impl Fn() -> Result<T, E>,
        go_on: impl Fn() -> Result<(), E>,
        work: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut lane = self.take(make, go_on)?;
        let lost = Lost(self);
        let outcome = work(&mut lane);
        std::mem::forget(lost);
        self.lock().free.push_back(lane);
        self.returned.notify_one();
        outcome
    }

    fn take<E: Display>(
        &self,
        make: impl Fn() -> Result<T, E>,
        go_on: impl Fn() -> Result<(), E>,
    ) -> Result<T, E> {
        let mut inner = self.lock();
        loop {
            if let Some(lane) = inner.free.pop_front() {
                return Ok(lane);
            }
            if inner.made < self.limit && !inner.is_short() {
                inner.made += 1;
                // Making one takes a while; others may bring theirs back meanwhile.
                drop(inner);
                let lost = Lost(self);
                let outcome = self.make(&make);
                inner = self.lock();
                match outcome {
                    Ok(lane) => {
                        std::mem::forget(lost);
                        return Ok(lane);
                    }
                    Err(refused) => {
                        std::mem::forget(lost);
                        inner.made -= 1;
                        if let Refused::Failed(error) = refused
                            && inner.made == 0
                        {
                            return Err(error);
                        }
                        inner.short_until = Some(Instant::now() + TRY_AGAIN);
                    }
                }
            } else {
                inner = self.returned.wait_timeout(inner, TICK).unwrap_or_else(PoisonError::into_inner).0;
                go_on()?;
            }
        }
    }

    fn make<E: Display>(&self, make: impl Fn() -> Result<T, E>) -> Result<T, Refused<E>> {
        let lanes = self.lock().made - 1;
        if let Some(left) = self.need.lacking(memory::available())
            && lanes > 0
        {
            let (lane, keep) = (self.need.bytes, self.need.keep_free);
            tracing::error!(
                lanes,
                left,
                lane,
                keep,
                "No memory for another recogniser: {left} bytes are left, it needs {lane}, and {keep} are to stay free; going on with {lanes}"
            );
            return Err(Refused::NoRoom);
        }
        make().map_err(|error| {
            tracing::error!(lanes, %error, "Cannot make another recogniser, going on with {lanes}: {error}");
            Refused::Failed(error)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Inner<T> {
    fn is_short(&self) -> bool {
        self.short_until.is_some_and(|until| Instant::now() < until)
    }
}

/// Why there is no further lane.
enum Refused<E> {
    NoRoom,
    Failed(E),
}

/// Counts a lane out when its user panics.
struct Lost<'a, T>(&'a Lanes<T>);

impl<T> Drop for Lost<'_, T> {
    fn drop(&mut self) {
        self.0.lock().made -= 1;
        self.0.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, mpsc};

    use super::*;

    fn lanes(limit: usize) -> Lanes<usize> {
        Lanes::new(0, limit, Need::default())
    }

    /// Holds a lane in a thread of its own until told to let go.
    fn hold<'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        lanes: &'scope Lanes<usize>,
        make: impl Fn() -> Result<usize, String> + Send + 'scope,
    ) -> (mpsc::Receiver<usize>, mpsc::Sender<()>) {
        let (told, has) = mpsc::channel();
        let (let_go, gate) = mpsc::channel();
        scope.spawn(move || {
            lanes.run(
                make,
                || Ok(()),
                |lane| {
                    told.send(*lane).unwrap();
                    gate.recv().unwrap();
                    Ok(())
                },
            )
        });
        (has, let_go)
    }

    #[test]
    fn lanes_are_made_when_they_are_needed_and_used_again() {
        let lanes = lanes(3);
        let made = AtomicUsize::new(0);
        let make = || Ok::<_, String>(made.fetch_add(1, Ordering::SeqCst) + 1);
        for _ in 0..5 {
            assert_eq!(lanes.run(make, || Ok(()), |lane| Ok(*lane)), Ok(0));
        }
        std::thread::scope(|scope| {
            let (has, let_go) = hold(scope, &lanes, || Ok(9));
            assert_eq!(has.recv().unwrap(), 0);
            assert_eq!(lanes.run(make, || Ok(()), |lane| Ok(*lane)), Ok(1));
            let_go.send(()).unwrap();
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert_eq!(lanes.at_once(), 3);
    }

    #[test]
    fn one_that_cannot_be_made_is_not_missed_and_not_tried_again_at_once() {
        let lanes = lanes(4);
        let tries = AtomicUsize::new(0);
        let refuse = || {
            tries.fetch_add(1, Ordering::SeqCst);
            Err("no memory".to_owned())
        };
        std::thread::scope(|scope| {
            let (has, let_go) = hold(scope, &lanes, || Ok(9));
            has.recv().unwrap();
            let (second, let_second_go) = hold(scope, &lanes, refuse);
            assert!(second.recv_timeout(Duration::from_millis(100)).is_err(), "it waits for the first");
            assert_eq!(lanes.at_once(), 1);
            let_go.send(()).unwrap();
            assert_eq!(second.recv().unwrap(), 0, "the first one came back");
            let_second_go.send(()).unwrap();
        });
        assert_eq!(tries.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn where_memory_must_stay_free_no_further_lane_is_made() {
        let lanes = Lanes::new(0, 2, Need { bytes: 1, keep_free: u64::MAX / 2 });
        std::thread::scope(|scope| {
            let (has, let_go) = hold(scope, &lanes, || Ok(9));
            has.recv().unwrap();
            let asked = Instant::now();
            let give_up =
                || if asked.elapsed() > Duration::from_millis(60) { Err("late".to_owned()) } else { Ok(()) };
            assert_eq!(lanes.run(|| Ok(1), give_up, |lane| Ok(*lane)), Err("late".to_owned()));
            assert_eq!(lanes.at_once(), 1);
            let_go.send(()).unwrap();
        });
    }

    #[test]
    fn a_lane_whose_user_panicked_is_replaced() {
        let lanes = lanes(1);
        let broken = catch_unwind(AssertUnwindSafe(|| {
            lanes.run(|| Ok::<_, String>(7), || Ok(()), |_| -> Result<(), String> { panic!("on purpose") })
        }));
        assert!(broken.is_err());
        assert_eq!(lanes.run(|| Ok::<_, String>(7), || Ok(()), |lane| Ok(*lane)), Ok(7));
    }

    #[test]
    fn without_any_lane_the_reason_is_told() {
        let lanes = lanes(1);
        let _ = catch_unwind(AssertUnwindSafe(|| {
            lanes.run(|| Ok::<_, String>(7), || Ok(()), |_| -> Result<(), String> { panic!("on purpose") })
        }));
        let outcome = lanes.run(|| Err("gone".to_owned()), || Ok(()), |lane: &mut usize| Ok(*lane));
        assert_eq!(outcome, Err("gone".to_owned()));
    }

    #[test]
    fn many_at_once_never_hold_more_than_the_limit() {
        let lanes = lanes(2);
        let (busy, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let start = Barrier::new(6);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..20 {
                        let outcome = lanes.run(
                            || Ok::<_, String>(1),
                            || Ok(()),
                            |_| {
                                most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                                std::thread::yield_now();
                                busy.fetch_sub(1, Ordering::SeqCst);
                                Ok(())
                            },
                        );
                        outcome.unwrap();
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 2);
    }
}
