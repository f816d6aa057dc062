//! The card as vpcd sees it: commands in, answers out, long ones in pieces.

use iso7816::{Command, Instruction, Status};

const LONGEST: usize = 7609;

/// A card with the command that has come in part, and the answer that has gone in part.
pub struct Card<T: opcard::Client> {
    inner: opcard::Card<T>,
    command: Option<Command<LONGEST>>,
    answer: heapless::Vec<u8, LONGEST>,
    gone: usize,
}

impl<T: opcard::Client> Card<T> {
    pub fn new(inner: opcard::Card<T>) -> Card<T> {
        Card { inner, command: None, answer: heapless::Vec::new(), gone: 0 }
    }

    fn handle(&mut self, data: &[u8]) -> Result<(Vec<u8>, Status), Status> {
        let part: Command<LONGEST> = data.try_into().map_err(|_| Status::WrongLength)?;
        let is_last = part.class().chain().last_or_only();
        let command = match self.command.take() {
            Some(mut command) => {
                command.extend_from_command(&part).map_err(|_| Status::WrongLength)?;
                command
            }
            None => part,
        };
        if !is_last {
            self.command = Some(command);
            return Ok((Vec::new(), Status::Success));
        }
        if command.instruction() != Instruction::GetResponse {
            self.answer.clear();
            self.gone = 0;
            self.inner.handle(command.as_view(), &mut self.answer)?;
        }
        let rest = &self.answer[self.gone..];
        let piece = rest[..rest.len().min(command.expected())].to_vec();
        self.gone += piece.len();
        let status = match self.answer.len() - self.gone {
            0 => Status::Success,
            left => Status::MoreAvailable(u8::try_from(left).unwrap_or(u8::MAX)),
        };
        Ok((piece, status))
    }
}

impl<T: opcard::Client> vpicc::VSmartCard for Card<T> {
    fn power_off(&mut self) {
        self.inner.reset();
    }

    fn reset(&mut self) {
        self.inner.reset();
    }

    fn execute(&mut self, data: &[u8]) -> Vec<u8> {
        let (mut answer, status) = self.handle(data).unwrap_or_else(|status| (Vec::new(), status));
        let status: [u8; 2] = status.into();
        answer.extend_from_slice(&status);
        answer
    }
}
