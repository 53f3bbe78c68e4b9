//! Cut between any two commits, a run goes on to the same table: no batch is made twice, nothing is paid for
//! twice, and what was paid for is read.
//!
//! A run is carried out in this process with a fuse in its writer. After so many commits everything of
//! it is dead, and another run goes on with the same file at the same provider. Each cut is made in two ways:
//! nobody has heard of the last commit; or all that followed from it has been done at the provider, and
//! none of that is on record.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod books;
mod project;

use overnight::domain::{HowEnded, Problem};
use overnight::machine::route::Asked;
use overnight::store::LastCommit;

use books::{holds_at_a_cut, holds_in_the_end, number, open, table};
use project::{Cut, Fresh, How, Project, Ran, Scene};

/// More commits than any run here makes.
const MANY: u64 = 400;

/// Faults of some lines, so that there is a second round.
const SOME_LINES: &str = "line_missing=0.2,line_500=0.2,length=0.2";

/// A table as it comes back.
type Table = Vec<(String, String, Option<String>)>;

/// Goes on to the end, which must be that all is answered.
#[track_caller]
fn goes_on(project: &Project, how: &How, context: &str) {
    match project.run(how, None) {
        Ran::ToItsEnd(HowEnded::Done) => {}
        other => {
            panic!("{context}: {other:?}: {:#?} {:#?}", table(project), project.ledger().totals)
        }
    }
}

/// Goes on to the end at a provider whose replies break off now and then: a run may leave a batch to the next one.
#[track_caller]
fn goes_on_in_some_runs(project: &Project, how: &How, context: &str) {
    let waits = |ran: &Ran| matches!(ran, Ran::ToItsEnd(HowEnded::Waiting { .. }));
    let leaves_some = (0..9).take_while(|_| waits(&project.run(how, None))).count();
    assert!(leaves_some < 9, "{context}: it does not get on: {:#?}", table(project));
    goes_on(project, how, context);
}

/// The table of a run that nothing happened to.
fn unbroken(scene: &Scene, fresh: &Fresh, how: &How) -> Table {
    let project = Project::new(scene, fresh);
    goes_on(&project, how, "unbroken");
    holds_in_the_end(&project, "unbroken");
    table(&project)
}

/// Cuts a run at every commit, in both ways. Returns at how many.
fn at_every_commit(scene: &Scene, how: &How) -> u64 {
    let fresh = Fresh::of(scene);
    let expected = unbroken(scene, &fresh, how);
    in_both_ways(|last| {
        let (first, step) = match (scene.takes_turns, last) {
            (false, LastCommit::Told | LastCommit::Untold) => (0, 1),
            (true, LastCommit::Told) => (0, 2),
            (true, LastCommit::Untold) => (1, 2),
        };
        for commits in (first..MANY).step_by(step) {
            let cut = Cut { commits, last };
            let context = format!("cut at {cut:?}");
            let project = Project::new(scene, &fresh);
            if matches!(project.run(how, Some(cut)), Ran::ToItsEnd(_)) {
                return commits;
            }
            holds_at_a_cut(&project, &context);
            goes_on(&project, how, &context);
            holds_in_the_end(&project, &context);
            assert_eq!(table(&project), expected, "{context}");
        }
        panic!("the commits do not end");
    })
}

/// Does something for each way of a cut, side by side: mostly they wait for the disk. Returns the lesser result.
fn in_both_ways(each: impl Fn(LastCommit) -> u64 + Sync) -> u64 {
    std::thread::scope(|scope| {
        let each = &each;
        let ways = [LastCommit::Told, LastCommit::Untold];
        let threads = ways.map(|last| scope.spawn(move || each(last)));
        threads.map(|thread| thread.join().unwrap()).into_iter().min().unwrap()
    })
}

/// A scene that is cut at every commit of a run of its own kind.
fn eight_rows() -> (Scene, How) {
    (Scene::default(), How::batches_of(4))
}

#[test]
fn two_batches() {
    let (scene, how) = eight_rows();
    let reached = at_every_commit(&scene, &how);
    // Eight places, and for each batch: upload, create, a few looks, collect.
    assert!(reached >= 8 + 2 * 9, "only {reached} commits were cut at");
}

#[test]
fn two_batches_and_one_request_ahead_of_them() {
    let scene = Scene { rows: 501, group: 250, takes_turns: true, ..Scene::default() };
    let how = How { asked: Asked::Auto, ..How::batches_of(250) };
    let reached = at_every_commit(&scene, &how);
    assert!(reached >= 2 + 2 + 2 * 7, "only {reached} commits were cut at");
}

#[test]
fn batches_whose_lines_are_missing_failed_and_truncated() {
    let scene = Scene {
        rows: 6,
        max_tokens: Some(64),
        simulator: |settings| settings.faults = SOME_LINES.parse().unwrap(),
        ..Scene::default()
    };
    let how = How::batches_of(3);
    let whole = Project::new(&scene, &Fresh::of(&scene));
    goes_on(&whole, &how, "unbroken");
    let struck = whole.ledger().totals.faults;
    assert_eq!(struck.len(), 3, "each of them strikes: {struck:?}");
    assert!(whole.ledger().totals.batches_created > 2, "there is a second round");
    at_every_commit(&scene, &how);
}

#[test]
fn few_files_are_on_their_way_at_a_time() {
    let (scene, how) = (Scene::default(), How::batches_of(1));
    let fresh = Fresh::of(&scene);
    let (mut sent, mut read) = (0, 0);
    for commits in 1..MANY {
        let project = Project::new(&scene, &fresh);
        let cut = Cut { commits, last: LastCommit::Told };
        if matches!(project.run(&how, Some(cut)), Ran::ToItsEnd(_)) {
            assert_eq!((sent, read), (2, 2), "uploads and collections at a time");
            return;
        }
        let conn = open(&project);
        let are = |status| {
            number(&conn, &format!("SELECT count(*) FROM batch WHERE status = '{status}'"))
        };
        (sent, read) = (sent.max(are("uploading")), read.max(are("collecting")));
    }
    panic!("the commits do not end");
}

#[test]
fn batches_that_the_queue_does_not_take() {
    let scene = Scene {
        rows: 9,
        words: 100,
        simulator: |settings| settings.enqueued_tokens = Some(150),
        ..Scene::default()
    };
    let how = How::batches_of(3);
    let whole = Project::new(&scene, &Fresh::of(&scene));
    goes_on(&whole, &how, "unbroken");
    let refused = "SELECT count(*) FROM batch WHERE error LIKE 'token_limit_exceeded%'";
    assert!(number(&open(&whole), refused) > 0, "a batch is refused");
    let totals = whole.ledger().totals;
    assert!(totals.batch_requests < totals.requests, "and of its requests some go by calls");
    assert_eq!(totals.requests, 9);
    at_every_commit(&scene, &how);
}

/// Cancels whatever is under way, and goes on to the end.
fn cancels_and_goes_on(project: &Project, how: &How, (cut, context): (Option<Cut>, &str)) -> bool {
    let open = project.store().open_batches().unwrap();
    let cancelling = How::cancelling(open.iter().map(|batch| batch.id).collect());
    let was_cut = match project.run(&cancelling, cut) {
        Ran::Cut => true,
        Ran::ToItsEnd(HowEnded::Done | HowEnded::SomeFailed) => false,
        other @ Ran::ToItsEnd(_) => panic!("{context}: {other:?}"),
    };
    holds_at_a_cut(project, context);
    goes_on(project, how, context);
    holds_in_the_end(project, context);
    was_cut
}

#[test]
fn a_cancellation_of_batches_that_are_half_done() {
    let (scene, how) = eight_rows();
    let fresh = Fresh::of(&scene);
    let expected = unbroken(&scene, &fresh, &how);
    let leaving = How { waits: false, ..how.clone() };
    let reached = in_both_ways(|last| {
        for commits in 0..MANY {
            let cut = Cut { commits, last };
            let context = format!("a cancellation that is cut at {cut:?}");
            let project = Project::new(&scene, &fresh);
            // The first run submits, the second one looks.
            for _ in 0..2 {
                let ran = project.run(&leaving, None);
                assert!(matches!(ran, Ran::ToItsEnd(HowEnded::Waiting { .. })), "{ran:?}");
            }
            assert_eq!(project.ledger().totals.batch_charged_requests, 4, "half of each is done");
            let was_cut = cancels_and_goes_on(&project, &how, (Some(cut), &context));
            assert_eq!(table(&project), expected, "{context}");
            assert_eq!(project.ledger().totals.batch_charged_requests, 8, "{context}");
            if !was_cut {
                return commits;
            }
        }
        panic!("the commits do not end");
    });
    assert!(reached >= 2 * 5, "only {reached} commits were cut at");
}

#[test]
fn a_cancellation_of_whatever_a_cut_has_left() {
    let (scene, how) = (Scene::default(), How::batches_of(2));
    let fresh = Fresh::of(&scene);
    let expected = unbroken(&scene, &fresh, &how);
    for commits in 1..MANY {
        let cut = Cut { commits, last: LastCommit::Told };
        let context = format!("cut at {cut:?} and cancelled");
        let project = Project::new(&scene, &fresh);
        if !matches!(project.run(&how, Some(cut)), Ran::Cut) {
            assert!(commits > 20, "only {commits} commits were cut at");
            return;
        }
        cancels_and_goes_on(&project, &how, (None, &context));
        assert_eq!(table(&project), expected, "{context}");
    }
}

#[test]
fn runs_that_each_live_for_a_few_commits() {
    let scene = Scene {
        max_tokens: Some(64),
        simulator: |settings| settings.faults = SOME_LINES.parse().unwrap(),
        ..Scene::default()
    };
    let how = How::batches_of(4);
    let fresh = Fresh::of(&scene);
    let expected = unbroken(&scene, &fresh, &how);
    for commits in [6, 8, 11] {
        for last in [LastCommit::Told, LastCommit::Untold] {
            let cut = Cut { commits, last };
            let context = format!("each cut at {cut:?}");
            let project = Project::new(&scene, &fresh);
            let ended = (0..MANY).find(|_| {
                holds_at_a_cut(&project, &context);
                matches!(project.run(&how, Some(cut)), Ran::ToItsEnd(_))
            });
            assert!(ended.is_some_and(|runs| runs > 2), "{context}: {ended:?} runs");
            holds_in_the_end(&project, &context);
            assert_eq!(table(&project), expected, "{context}");
        }
    }
}

#[test]
fn rows_with_the_same_text() {
    let scene = Scene { rows: 9, texts: 4, ..Scene::default() };
    let how = How::batches_of(2);
    let whole = Project::new(&scene, &Fresh::of(&scene));
    goes_on(&whole, &how, "unbroken");
    assert_eq!(whole.ledger().totals.requests, 4, "each text is bought once");
    at_every_commit(&scene, &how);
}

#[test]
fn an_interruption_after_every_event() {
    let scene = Scene {
        rows: 6,
        max_tokens: Some(64),
        simulator: |settings| settings.faults = SOME_LINES.parse().unwrap(),
        ..Scene::default()
    };
    let how = How::batches_of(3);
    let fresh = Fresh::of(&scene);
    let expected = unbroken(&scene, &fresh, &how);
    for event in 1..MANY {
        let context = format!("interrupted at event {event}");
        let project = Project::new(&scene, &fresh);
        let interrupted = How { interrupted_at: Some(event), ..how.clone() };
        match project.run(&interrupted, None) {
            Ran::ToItsEnd(HowEnded::Stopped(Problem::Interrupted)) => {}
            Ran::ToItsEnd(HowEnded::Done) => {
                assert!(event > 30, "only {event} events");
                return;
            }
            other => panic!("{context}: {other:?}"),
        }
        holds_at_a_cut(&project, &context);
        goes_on(&project, &how, &context);
        holds_in_the_end(&project, &context);
        assert_eq!(table(&project), expected, "{context}");
    }
    panic!("the events do not end");
}

#[test]
fn replies_that_are_lost_on_the_way_instead() {
    for (number, faults) in [
        "create_lost=every:1",
        "upload_lost=every:1",
        "upload_lost=every:2,create_lost=every:2,content_cut=every:2,poll_500=every:2",
        "upload_lost=every:3,create_lost=every:2,content_cut=every:2,poll_500=every:3",
        "upload_500=every:2,create_500=every:2,content_500=every:2,poll_429=every:9",
        "upload_lost=0.5,create_lost=0.5,content_cut=0.5,poll_500=0.5",
        "upload_lost=0.5,create_404=0.5,content_404=0.5,poll_500=0.5",
    ]
    .into_iter()
    .enumerate()
    {
        let (scene, how) = eight_rows();
        let fresh = Fresh::of(&scene);
        let expected = unbroken(&scene, &fresh, &how);
        for seed in 0..4 {
            let context = format!("{faults} with seed {seed} of {number}");
            let project = Project::with(&scene, &fresh, |settings| {
                settings.seed = seed;
                settings.faults = faults.parse().unwrap();
            });
            goes_on_in_some_runs(&project, &how, &context);
            holds_in_the_end(&project, &context);
            assert_eq!(project.ledger().totals.batch_charged_requests, 8, "{context}");
            let answers = |table: &Table| table.iter().map(|row| row.1.clone()).collect::<Vec<_>>();
            assert_eq!(answers(&table(&project)), answers(&expected), "{context}");
        }
    }
}
