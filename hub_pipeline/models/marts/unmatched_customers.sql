/*---
description: >
  Billing customers that no organisation of HubSpot answers to. Each is an organisation of its own in all lists, so
  nobody who pays is dropped; a line of the identities file, or the reference that is missing, puts it where it belongs.
  Ambiguous: a rule of docs/billing.md names several organisations; reference_unknown: it has a reference, and no
  organisation answers to it; no_reference: it has none. Where HubSpot has no organisations at all, every customer is
  one and none is listed. One that is gone from billing and never had a subscription is left out.
grain: [as_of, known_at, org_id]
columns:
  as_of: {type: DATE, meaning: "day the row is for", not_null: true}
  known_at: {type: DATE, meaning: "day whose close ends what may be known", not_null: true}
  org_id: {type: VARCHAR, meaning: "billing:<customer id>, with the billing system before the id where another has the same", not_null: true}
  name: {type: VARCHAR, meaning: "name of the customer"}
  reason: {type: VARCHAR, meaning: "why nothing matches", not_null: true, accepted: [ambiguous, reference_unknown, no_reference]}
  state: {type: VARCHAR, meaning: "commercial state, see organisation_daily", not_null: true}
  seats: {type: BIGINT, meaning: "seats of running subscriptions; empty = unknown"}
  mrr: {type: "DECIMAL(18,2)", meaning: "monthly recurring revenue, reporting currency; empty = unknown"}
  settings_hash: {type: VARCHAR, meaning: "settings the row was made with", not_null: true}
checks:
  - name: every_customer_has_an_organisation
    severity: warn
    description: Billing customers that no organisation answers to; they are organisations of their own.
    sql: >
      SELECT org_id, reason, mrr FROM marts.unmatched_customers
      WHERE as_of = CAST($as_of AS DATE) AND known_at = CAST($known_at AS DATE)
---*/
WITH latest AS (
    SELECT org_id, unmatched_reason
    FROM staging.organisations
    WHERE recorded_at < $close_known_at
    QUALIFY row_number() OVER (PARTITION BY org_id ORDER BY recorded_at DESC) = 1
)
SELECT
    d.as_of,
    d.known_at,
    d.org_id,
    d.name,
    l.unmatched_reason AS reason,
    d.state,
    d.seats,
    d.mrr,
    CAST($settings_hash AS VARCHAR) AS settings_hash
FROM marts.organisation_daily AS d
INNER JOIN latest AS l ON d.org_id = l.org_id
WHERE
    d.as_of = CAST($as_of AS DATE)
    AND d.known_at = CAST($known_at AS DATE)
    AND l.unmatched_reason IS NOT NULL
