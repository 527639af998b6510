//! Reading a ring buffer.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use ringfence_sys as sys;
use rustix::io::Errno;
use sys::RingConsumer;

use crate::error::{Cause, Kind, Result};
use crate::events::{Seen, damaged};
use crate::map::Map;

#[derive(Debug)]
pub(crate) struct RingSource {
    map: Map,
    consumer: RingConsumer,
    events: u64,
    fullest: usize,
}

impl RingSource {
    pub(crate) fn new(map: &Map, epoll: &sys::Epoll, token: u64) -> Result<RingSource> {
        let step = "mapping its buffer";
        let consumer = RingConsumer::map(map.fd()).map_err(|errno| match errno {
            Errno::BUSY => {
                let cause = Cause::new(Kind::Io, "another reader has it: a ring buffer can only have one").errno(errno);
                map.failed(step, cause)
            }
            _ => map.error(step, errno),
        })?;
        epoll.add(map.as_fd(), token).map_err(|errno| map.error(step, errno))?;
        Ok(RingSource { map: map.clone(), consumer, events: 0, fullest: 0 })
    }

    #[inline]
    pub(crate) fn drain(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> Result<usize> {
        self.fullest = self.fullest.max(self.consumer.pending());
        let events = &mut self.events;
        let drained = self.consumer.drain(most, |record| {
            *events += 1;
            each(record);
            ControlFlow::Continue(())
        });
        drained.map(|drained| drained.records).map_err(|error| damaged(&self.map, error))
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen {
            map: self.map.name().to_owned(),
            events: self.events,
            lost: None,
            lost_is_least: false,
            lost_by_cpu: Vec::new(),
            fullest: self.fullest,
            size: self.consumer.size(),
        }
    }
}
