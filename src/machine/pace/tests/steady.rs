//! What the pace reaches at each kind of provider: the figures that are promised.
//!
//! Every scene is played with several seeds, which say how long answers take, how long they are on the wire and how far
//! guesses are off.

use super::provider::*;
use super::*;

const SEEDS: std::ops::Range<u64> = 1..3;
/// At high rates one is enough: thousands of calls say as much as thousands of seeds.
const HIGH_RPM: f64 = 1_000.0;
const LATENCIES: [f64; 3] = [0.05, 1.0, 5.0];

/// The least share of a limit that is used, and the largest share of calls that are refused.
#[derive(Clone, Copy)]
struct Demand {
    used: f64,
    refused: f64,
    from_s: f64,
}

/// What is promised where headers tell the limit.
const TOLD: Demand = Demand { used: 0.95, refused: 0.01, from_s: 0.0 };
/// The same after a minute.
const STEADY: Demand = Demand { from_s: 60.0, ..TOLD };

/// Plays a scene with each seed at each latency and demands something of it.
#[track_caller]
fn hold(demand: Demand, name: &str, scene: &Scene) {
    let is_high = scene.rpm.is_some_and(|(_, rpm)| rpm > HIGH_RPM);
    let seeds = SEEDS.filter(|seed| !is_high || *seed == SEEDS.start);
    for (seed, latency) in seeds.flat_map(|seed| LATENCIES.map(|latency| (seed, latency))) {
        let mut scene = Scene { seed, latency: (latency, scene.latency.1), ..scene.clone() };
        // As many as the limit lets through while one is under way must be allowed to be.
        let needed = scene.rpm.map_or(0.0, |(_, rpm)| 1.2 * rpm / 60.0 * latency);
        scene.concurrency = (needed > 256.0).then_some(needed as u32);
        let came = run(&scene);
        let span = (demand.from_s, scene.seconds);
        let used = [(scene.rpm, came.rpm(span)), (scene.tpm, came.tpm(span))];
        let used = used.into_iter().filter_map(|(limit, rate)| Some(rate / limit?.1));
        let used = used.reduce(f64::max).unwrap();
        let refused = came.share_refused(span);
        assert!(
            used >= demand.used && refused <= demand.refused,
            "{name}, latency {latency} s, seed {seed}: {:.1}% used, {:.2}% refused",
            used * 100.0,
            refused * 100.0,
        );
    }
}

fn rpm(shape: Shape, limit: f64) -> Scene {
    Scene { rpm: Some((shape, limit)), ..Scene::new() }
}

fn tpm(shape: Shape, limit: f64) -> Scene {
    Scene { tpm: Some((shape, limit)), ..Scene::new() }
}

/// Headers that tell how it stood when the request came, and when the reply went.
const BOTH: [Words; 2] = [ALL, Words { is_late: true, ..ALL }];

#[test]
fn a_limit_of_requests_is_used_up_and_not_gone_beyond() {
    for (limit, words) in [60.0, 600.0, 3_000.0].into_iter().flat_map(|l| BOTH.map(|w| (l, w))) {
        hold(TOLD, "full", &Scene { words, ..rpm(FULL, limit) });
        hold(STEADY, "empty", &Scene { words, ..rpm(EMPTY, limit) });
    }
    hold(STEADY, "high", &Scene { seconds: 120.0, ..rpm(FULL, 30_000.0) });
}

#[test]
fn a_limit_of_tokens_is_used_up_whatever_a_token_was_guessed_to_be() {
    for (limit, words) in [10_000.0, 100_000.0].into_iter().flat_map(|l| BOTH.map(|w| (l, w))) {
        for scale in [0.2, 0.6, 1.0] {
            let name = format!("{limit} tokens, {scale} each, late {}", words.is_late);
            // Long enough that one refusal is less than a hundredth.
            let seconds = if limit < 50_000.0 { 900.0 } else { 240.0 };
            let scene = Scene { words, scale, seconds, ..tpm(FULL, limit) };
            hold(STEADY, &name, &scene);
        }
    }
    hold(STEADY, "empty", &Scene { seconds: 360.0, ..tpm(EMPTY, 100_000.0) });
}

#[test]
fn of_two_limits_the_narrower_is_used_up() {
    for (tpm, rpm) in [(100_000.0, 400.0), (200_000.0, 500.0), (10_000.0, 60.0)] {
        let scene = Scene { tpm: Some((FULL, tpm)), rpm: Some((FULL, rpm)), ..Scene::new() };
        hold(STEADY, "two", &Scene { seconds: 360.0, ..scene });
    }
}

#[test]
fn what_others_leave_is_used_up() {
    let others: [fn(f64) -> f64; 2] =
        [|_| 0.5, |at| if (at / 20.0) as u64 % 2 == 1 { 0.6 } else { 0.2 }];
    for (limit, others) in [600.0, 3_000.0].into_iter().flat_map(|l| others.map(|o| (l, o))) {
        let mean = (60..240).map(|at| others(f64::from(at))).sum::<f64>() / 180.0;
        let demand = Demand { used: 0.95 * (1.0 - mean), ..STEADY };
        hold(demand, "shared", &Scene { others, ..rpm(FULL, limit) });
    }
}

#[test]
fn windows_are_found_out_and_used_up() {
    for (limit, words) in [60.0, 600.0, 3_000.0].into_iter().flat_map(|l| BOTH.map(|w| (l, w))) {
        let window = rpm(Shape::Window { age_s: 25.0 }, limit);
        hold(STEADY, "window", &Scene { words, seconds: 360.0, ..window });
        hold(STEADY, "sliding", &Scene { words, seconds: 360.0, ..rpm(Shape::Sliding, limit) });
    }
    hold(
        STEADY,
        "tokens",
        &Scene { seconds: 600.0, ..tpm(Shape::Window { age_s: 25.0 }, 100_000.0) },
    );
}

#[test]
fn headers_may_come_seldom_or_say_only_a_part() {
    for limit in [60.0, 600.0, 3_000.0] {
        let bucket = Scene { seconds: 360.0, ..rpm(FULL, limit) };
        let words = |words| Scene { words, ..bucket.clone() };
        hold(STEADY, "every tenth", &words(Words { every: 10, ..ALL }));
        hold(STEADY, "no remaining", &words(Words { remaining: false, ..ALL }));
        hold(STEADY, "no reset", &words(Words { reset: false, ..ALL }));
        let window = Scene { rpm: Some((Shape::Window { age_s: 10.0 }, limit)), ..bucket.clone() };
        let part = Words { remaining: false, ..ALL };
        hold(
            Demand { used: 0.93, ..STEADY },
            "no remaining, window",
            &Scene { words: part, ..window.clone() },
        );
    }
}

#[test]
fn headers_that_promise_too_much_are_found_out() {
    for limit in [600.0, 3_000.0] {
        let words = Words { lie: 4.0, ..ALL };
        hold(
            Demand { refused: 0.03, ..STEADY },
            "lie",
            &Scene { words, seconds: 360.0, ..rpm(FULL, limit) },
        );
    }
}

/// What is promised where nothing tells the limit but refusals.
const UNTOLD: Demand = Demand { used: 0.9, refused: 0.032, from_s: 60.0 };

#[test]
fn without_a_word_refusals_teach_the_rate() {
    for (limit, retry_after) in
        [60.0, 600.0, 3_000.0].into_iter().flat_map(|l| [(l, true), (l, false)])
    {
        let scene = |shape| Scene { words: NONE, retry_after, seconds: 600.0, ..rpm(shape, limit) };
        hold(UNTOLD, "full", &scene(FULL));
        hold(UNTOLD, "empty", &scene(EMPTY));
    }
}

#[test]
fn a_limit_that_is_lowered_and_raised_again_is_followed_within_two_minutes() {
    let limit_at = |at| if (120.0..240.0).contains(&at) { 0.4 } else { 1.0 };
    for (words, limit) in
        [(ALL, 60.0), (ALL, 600.0), (ALL, 3_000.0), (NONE, 600.0), (NONE, 3_000.0)]
    {
        for (seed, latency) in
            SEEDS.flat_map(|seed| [0.05, 1.0, 5.0].map(|latency| (seed, latency)))
        {
            if limit * latency > 10_000.0 {
                continue;
            }
            let latency = (latency, 0.3);
            let scene =
                Scene { words, limit_at, latency, seed, seconds: 480.0, ..rpm(FULL, limit) };
            let came = run(&scene);
            let low = came.rpm((180.0, 240.0)) / limit;
            let after = came.rpm((360.0, 480.0)) / limit;
            assert!(
                (0.38..=0.44).contains(&low) && after >= 0.95,
                "{limit} a minute, {latency:?}, seed {seed}, told {}: {low:.3} while it was low, {after:.3} after",
                words.limit,
            );
        }
    }
}

#[test]
fn a_second_run_does_not_begin_with_a_burst() {
    let remembered = Rates { requests: Some(600), tokens: None };
    for words in [ALL, NONE] {
        let scene = Scene { words, remembered, seconds: 60.0, ..rpm(EMPTY, 600.0) };
        hold(Demand { used: 0.85, refused: 0.01, from_s: 0.0 }, "second run", &scene);
    }
}

/// Plays a scene without limits; returns how many were allowed at some seconds, and the answers a second.
fn without_limits(latency: (f64, f64), slots: Option<usize>, seconds: f64) -> (Vec<u32>, f64) {
    let scene = Scene { words: NONE, latency, slots, seconds, ..Scene::new() };
    let came = run(&scene);
    assert!(came.refused.is_empty());
    (came.allowed, came.answered as f64 / seconds)
}

#[test]
fn refusals_that_come_whatever_the_rate_hold_up_hardly_more_than_their_own_calls() {
    let shares = [0.005, 0.02, 0.05, 0.1].into_iter();
    let kinds = shares.flat_map(|stray| [(stray, true), (stray, false)]);
    for (stray, retry_after) in kinds {
        for (latency, seed) in
            [0.05, 1.0].into_iter().flat_map(|latency| SEEDS.map(move |seed| (latency, seed)))
        {
            let settings =
                Scene { words: NONE, concurrency: Some(32), seconds: 120.0, ..Scene::new() };
            let free = Scene { latency: (latency, 0.3), seed, ..settings };
            let came = run(&Scene { retry_after, stray, ..free.clone() });
            let free = run(&free);
            let share = |span| came.rpm(span) / free.rpm(span);
            let (early, late) = (share((0.0, 60.0)), share((60.0, 120.0)));
            assert!(
                early >= 0.4 && late >= 0.7,
                "{stray} at {latency} s, asked {retry_after}, seed {seed}: {early:.2}, then {late:.2}"
            );
        }
    }
}

#[test]
fn a_limit_is_found_among_refusals_that_have_nothing_to_do_with_it() {
    for (stray, most) in [(0.01, 0.055), (0.05, 0.17)] {
        for (limit, seed) in
            [600.0, 3_000.0].into_iter().flat_map(|limit| SEEDS.map(move |seed| (limit, seed)))
        {
            let scene = Scene { words: NONE, stray, seconds: 600.0, seed, ..rpm(FULL, limit) };
            let came = run(&scene);
            let span = (60.0, scene.seconds);
            let (used, refused) = (came.rpm(span) / limit, came.share_refused(span));
            assert!(
                used >= 0.85 && refused <= most,
                "{limit} a minute, {stray}, seed {seed}: {used:.2} used, {refused:.3} refused"
            );
        }
    }
}

#[test]
fn a_server_that_queues_is_not_flooded() {
    for (latency, spread) in [(0.05, 0.3), (1.0, 0.0), (1.0, 0.5), (5.0, 0.3)] {
        let seconds = 400.0 * f64::max(latency, 1.0);
        let (allowed, rate) = without_limits((latency, spread), Some(8), seconds);
        let late: Vec<u32> = allowed[allowed.len() / 2..].to_vec();
        let mean = f64::from(late.iter().sum::<u32>()) / late.len() as f64;
        assert!((7.0..=24.0).contains(&mean), "{latency} s: {mean:.1} in the mean");
        assert!(rate >= 0.9 * 8.0 / (latency + 0.05), "{latency} s: {rate:.2} a second");
    }
}

#[test]
fn a_server_that_takes_all_gets_all_soon() {
    for (latency, spread, by_s) in [(0.05, 0.5, 3), (1.0, 0.0, 9), (1.0, 0.5, 12), (5.0, 0.3, 45)] {
        let (allowed, _) = without_limits((latency, spread), None, f64::from(by_s) + 60.0);
        assert_eq!(allowed[by_s as usize], 256, "{latency} s: {allowed:?}");
        assert!(allowed[by_s as usize..].iter().all(|allowed| *allowed >= 200), "{allowed:?}");
    }
}
