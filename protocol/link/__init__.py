"""What two linked nodes say: how a link comes up, who is at the other end, and the messages."""
