-- Calls in the order in which their ends became known: what a reader of all records goes by.
CREATE INDEX call_log_ended ON call_log (n) WHERE kind = 'call.ended';
