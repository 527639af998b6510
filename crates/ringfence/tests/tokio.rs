//! Waiting for events by futures.

mod common;

use std::time::Duration;

use common::load_object;
use ringfence::{AsyncEvents, Events, Settings};

#[test]
fn events_as_futures() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let loaded = load_object("events", Settings::new());
    let run = |program: &str, times| loaded.program(program).unwrap().test_run(&[0; 64], times).unwrap();
    runtime.block_on(async {
        let maps = [loaded.map("ring").unwrap(), loaded.map("perf").unwrap()];
        let mut events = AsyncEvents::new(Events::new(maps).unwrap()).unwrap();
        let nothing =
            tokio::time::timeout(Duration::from_millis(250), events.poll(|_| panic!("nothing was sent"))).await;
        assert!(nothing.is_err());
        let mut seen = Vec::new();
        for round in 0..50u32 {
            let program = if round % 2 == 0 { "to_ring" } else { "to_perf" };
            let send = async {
                tokio::task::yield_now().await;
                run(program, 1);
            };
            let mut received = 0;
            let receive = async {
                let poll = events.poll(|event| {
                    seen.push((event.source, event.read::<u32>().unwrap()));
                    received += 1;
                });
                tokio::time::timeout(Duration::from_secs(5), poll).await.unwrap().unwrap();
            };
            join(send, receive).await;
            assert_eq!(received, 1);
        }
        // Numbers are given out to both in turn: the ring's are even, and only odd ones are discarded.
        assert_eq!(seen, (0..50).map(|n| (n as usize % 2, n)).collect::<Vec<_>>());
        assert_eq!(events.seen()[1].events, 25);
        assert_eq!(events.into_inner().lost(), 0);
    });
}

async fn join<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    use std::pin::pin;
    use std::task::Poll;
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(context)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(context)
        {
            second = Some(value);
        }
        if first.is_some() && second.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (first.unwrap(), second.unwrap())
}
