-- The contacts of a campaign in their order: pages of an export and of a pre-flight begin where the last one ended,
-- instead of sorting all of them each time. The row's number is part of every index.
CREATE INDEX campaign_contacts_order ON campaign_contacts (campaign);
