CREATE TABLE IF NOT EXISTS products (
  id VARCHAR(50) PRIMARY KEY,
  name VARCHAR(255),
  category VARCHAR(100),
  subcategory VARCHAR(100),
  brand VARCHAR(100),
  price DECIMAL(10,2),
  description TEXT,
  stock_quantity INTEGER,
  created_at TIMESTAMPTZ,
  ratings DECIMAL(3,2),
  reviews_count INTEGER,
  tags TEXT[]
);
