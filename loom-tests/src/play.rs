//! How a model is played: a stage that is set anew, roles on threads of their own, an epilogue.

use crate::sync::set_shard;
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one thread of a model does.
pub(crate) type Role<S> = fn(&S);

/// Fewer executions than this mean that loom saw no choice where there is one.
const EXECUTIONS_MIN: usize = 5;

/// Plays a model in all interleavings with at most `preemptions` preemptions: sets the stage, lets
/// all roles act at once, role `main` on the main thread, and looks at what they left.
pub(crate) fn play<S: Send + Sync + 'static>(
    preemptions: usize,
    main: usize,
    stage: fn() -> S,
    roles: &'static [Role<S>],
    epilogue: fn(&S),
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    let executions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&executions);
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let stage = Arc::new(stage());
        let threads: Vec<_> = (0..roles.len())
            .filter(|role| *role != main)
            .map(|role| {
                let stage = Arc::clone(&stage);
                thread::spawn(move || {
                    set_shard(role);
                    roles[role](&stage);
                })
            })
            .collect();
        set_shard(main);
        roles[main](&stage);
        for thread in threads {
            thread.join().expect("a role failed");
        }
        epilogue(&stage);
    });
    let executions = executions.load(Ordering::Relaxed);
    println!("{executions} executions with role {main} on the main thread");
    assert!(executions >= EXECUTIONS_MIN, "the roles hardly met: {executions} executions");
}
