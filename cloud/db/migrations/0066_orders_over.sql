-- Orders that are over, by when: the old ones are deleted.
CREATE INDEX orders_over ON orders (changed) WHERE state IN ('done', 'failed', 'expired');
